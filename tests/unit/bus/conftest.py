"""Real keys of Salt in a real key store, and the tiniest journal that keeps the rules."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
import salt._logging
import salt.cache
import salt.config
import salt.crypt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from saltstorage.bus import salts
from saltstorage.bus.keys import QuickKey


@pytest.fixture(scope="session", autouse=True)
def _no_deferred_log() -> None:
    """Remove Salt's handler for log lines before its logging is set up; it would write them to a
    closed stream at the end.
    """
    salt._logging.shutdown_temp_handler()


@dataclass
class KeyPair:
    private_pem: str
    public_pem: str

    @cached_property
    def private(self) -> salt.crypt.PrivateKey:
        return QuickKey(self.private_pem.encode())

    @cached_property
    def public(self) -> salt.crypt.PublicKey:
        return salts.public_key(self.public_pem)


@pytest.fixture(scope="session")
def pairs() -> dict[str, KeyPair]:
    """Return a key pair of each of the master, the minions alpha and beta, and a stranger."""
    return {name: KeyPair(*gen_keys()) for name in ("master", "alpha", "beta", "stranger")}


@pytest.fixture
def master_opts(tmp_path: Path, pairs: dict[str, KeyPair]) -> dict[str, Any]:
    """Return the options of a master in a folder of its own, which has accepted alpha and beta."""
    config = tmp_path / "master"
    config.write_text(f"root_dir: {tmp_path}\nid: master\npki_dir: pki\ncachedir: cache\nsock_dir: run\nlog_file: log\n")
    (tmp_path / "pki").mkdir()
    (tmp_path / "pki" / "master.pem").write_text(pairs["master"].private_pem)
    (tmp_path / "pki" / "master.pub").write_text(pairs["master"].public_pem)
    opts = salt.config.master_config(str(config))
    for minion in ("alpha", "beta"):
        set_key(opts, minion, pairs[minion].public_pem)
    return opts


@pytest.fixture
def minion_opts(tmp_path: Path, pairs: dict[str, KeyPair]) -> dict[str, Any]:
    """Return the options of the minion alpha, which knows its master."""
    folder = tmp_path / "alpha"
    (folder / "pki").mkdir(parents=True)
    (folder / "pki" / "minion.pem").write_text(pairs["alpha"].private_pem)
    (folder / "pki" / "minion_master.pub").write_text(pairs["master"].public_pem)
    config = folder / "minion"
    config.write_text(f"root_dir: {folder}\nid: alpha\npki_dir: pki\ncachedir: cache\nsock_dir: run\nlog_file: log\n")
    opts: dict[str, Any] = salt.config.minion_config(str(config))
    return opts


def gen_keys() -> tuple[str, str]:
    """Return a new private key and its public half in PEM, as Salt writes them. Releases of Salt
    differ in how they are asked for one.
    """
    key = rsa.generate_private_key(65537, 2048)
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption())
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return private.decode(), public.decode()


_FOLDERS = {"accepted": "minions", "pending": "minions_pre", "rejected": "minions_rejected"}


def set_key(opts: dict[str, Any], minion: str, pem: str, state: str = "accepted") -> None:
    """Do what salt-key does."""
    if "keys.cache_driver" in opts:
        salt.cache.Cache(opts, driver=opts["keys.cache_driver"]).store("keys", minion, {"state": state, "pub": pem})
        return
    drop_key(opts, minion)
    folder = Path(opts["pki_dir"], _FOLDERS[state])
    folder.mkdir(parents=True, exist_ok=True)
    (folder / minion).write_text(pem)


def drop_key(opts: dict[str, Any], minion: str) -> None:
    """Do what ``salt-key -d`` does."""
    if "keys.cache_driver" in opts:
        salt.cache.Cache(opts, driver=opts["keys.cache_driver"]).flush("keys", minion)
        return
    for folder in _FOLDERS.values():
        Path(opts["pki_dir"], folder, minion).unlink(missing_ok=True)


@dataclass(frozen=True)
class Entry:
    state: str
    digest: str
    reply: bytes | None = None


class MemoryJournal:
    """A journal that forgets when the process ends."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.entries: dict[str, Entry] = {}

    def begin(self, request_id: str, minion: str, digest: str, op: str, signed: float) -> Entry:
        with self._lock:
            known = self.entries.get(request_id)
            if known is None:
                self.entries[request_id] = Entry("running", digest)
            return known or Entry("new", digest)

    def known(self, request_id: str) -> Entry | None:
        return self.entries.get(request_id)

    def finish(self, request_id: str, reply: bytes) -> None:
        with self._lock:
            self.entries[request_id] = Entry("done", self.entries[request_id].digest, reply)

    def prune(self, older_than: float, reads_older_than: float) -> int:
        return 0

    def engine_died(self) -> None:
        """Make what was running new again, as the real journal does for the next engine."""
        self.entries = {key: entry for key, entry in self.entries.items() if entry.state == "done"}
