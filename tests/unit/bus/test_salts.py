"""Each place where two lines of Salt differ gives the same on both: keys, the store of keys, and
the event bus. No test asks which Salt it has; ``tools/matrix.sh`` runs them with each.
"""

from __future__ import annotations

import base64
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import salt.config
import salt.crypt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from saltstorage.bus import salts
from saltstorage.bus.eventbus import BusLostError, EventBus
from tests.conftest import CHECKOUT, free_tcp_port
from tests.unit.bus.conftest import KeyPair, drop_key, set_key

#: Seconds. A busy machine may take as long to start a process.
START_TIMEOUT = 120


def test_a_key_from_text_does_what_a_key_from_a_file_does(pairs: dict[str, KeyPair], tmp_path: Path) -> None:
    """Its signature is verified by Salt's own key, and Salt's own key opens what it encrypts."""
    private = tmp_path / "own.pem"
    private.write_text(pairs["alpha"].private_pem)
    own = (
        salt.crypt.PrivateKey.from_file(str(private))
        if hasattr(salt.crypt.PrivateKey, "from_file")
        else salt.crypt.PrivateKey(str(private))
    )
    public = salts.public_key(pairs["alpha"].public_pem)
    signature = own.sign(b"text", algorithm=salt.crypt.PKCS1v15_SHA224)
    assert public.verify(b"text", signature, algorithm=salt.crypt.PKCS1v15_SHA224)
    assert not public.verify(b"other", signature, algorithm=salt.crypt.PKCS1v15_SHA224)
    wrapped = public.encrypt(b"secret", algorithm=salt.crypt.OAEP_SHA224)
    assert own.decrypt(wrapped, algorithm=salt.crypt.OAEP_SHA224) == b"secret"
    assert not salts.public_key(pairs["beta"].public_pem).verify(b"text", signature, algorithm=salt.crypt.PKCS1v15_SHA224)


def unknown_kind() -> str:
    """Return a key in PEM of a kind that the library does not know: that of RSA with another number
    for the algorithm.
    """
    pem = rsa.generate_private_key(65537, 2048).public_key()
    der = pem.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    rsa_encryption = bytes.fromhex("06092a864886f70d010101")
    assert der.count(rsa_encryption) == 1
    body = base64.encodebytes(der.replace(rsa_encryption, bytes.fromhex("06092a864886f70d01017f"))).decode()
    return f"-----BEGIN PUBLIC KEY-----\n{body}-----END PUBLIC KEY-----\n"


@pytest.mark.parametrize("pem", ["", "no key", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", unknown_kind()])
def test_text_that_is_no_key_is_a_value_error(pem: str) -> None:
    with pytest.raises(ValueError):
        salts.public_key(pem)


def test_the_masters_key_signs(master_opts: dict[str, Any], pairs: dict[str, KeyPair]) -> None:
    signature = salts.master_key(master_opts).sign(b"text", algorithm=salt.crypt.PKCS1v15_SHA224)
    assert pairs["master"].public.verify(b"text", signature, algorithm=salt.crypt.PKCS1v15_SHA224)


def stores(opts: dict[str, Any]) -> list[Any]:
    """Return the stores that this Salt can have: that of folders, and from Salt 3008 on the cache
    whose default driver reads the same folders.
    """
    found: list[Any] = [salts._KeyFiles(opts)]
    if "keys.cache_driver" in opts:
        found.append(salts._KeyCache(opts))
    return found


def accepted(store: Any, minion: str) -> str | None:
    """Return the accepted key of a minion; a store of files has an error where there is no file."""
    try:
        return store.accepted(minion)  # type: ignore[no-any-return]
    except FileNotFoundError:
        return None


def test_the_store_is_that_of_this_salt(master_opts: dict[str, Any]) -> None:
    assert type(salts.KeyStore(master_opts)._keys) is type(stores(master_opts)[-1])


def test_every_store_knows_the_same_minions(master_opts: dict[str, Any], pairs: dict[str, KeyPair]) -> None:
    set_key(master_opts, "gamma", pairs["stranger"].public_pem, "pending")
    set_key(master_opts, "delta", pairs["stranger"].public_pem, "rejected")
    drop_key(master_opts, "beta")
    for store in [salts.KeyStore(master_opts), *stores(master_opts)]:
        assert sorted(store.minions()) == ["alpha", "delta", "gamma"], store
        assert store.accepted("alpha") == pairs["alpha"].public_pem, store
        for other in ("beta", "gamma", "delta", "nobody"):
            assert accepted(store, other) is None, (store, other)


def test_a_rejected_key_does_not_count_where_an_accepted_one_lies_too(master_opts: dict[str, Any], pairs: dict[str, KeyPair]) -> None:
    """Files may lie in both folders after a copy of the master's keys."""
    rejected = Path(master_opts["pki_dir"], "minions_rejected")
    rejected.mkdir(exist_ok=True)
    (rejected / "alpha").write_text(pairs["alpha"].public_pem)
    for store in [salts.KeyStore(master_opts), *stores(master_opts)]:
        assert accepted(store, "alpha") is None, store


@pytest.mark.parametrize("minion", ["", "..", "../minions/alpha", "a/b", "a\0b", "x" * 255, "\ud800"])
def test_a_strange_id_has_no_key(master_opts: dict[str, Any], minion: str) -> None:
    assert salts.KeyStore(master_opts).accepted(minion) is None


def test_without_a_master_there_are_no_minions(tmp_path: Path) -> None:
    config = tmp_path / "master"
    config.write_text(f"root_dir: {tmp_path}\n")
    store = salts.KeyStore(salt.config.master_config(str(config)))
    assert store.minions() == []
    assert store.accepted("alpha") is None


class Bus:
    """An event bus in a process of its own."""

    def __init__(self, node: str, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        config = folder / "config"
        config.write_text(f"root_dir: {folder}\nid: alpha\nsock_dir: run\nlog_file: log\npki_dir: pki\ncachedir: cache\n")
        (folder / "run").mkdir()
        self.node, self.config = node, str(config)
        self.opts = salt.config.master_config(self.config) if node == "master" else salt.config.minion_config(self.config)
        self.process: subprocess.Popen[bytes] | None = None

    def client(self) -> EventBus:
        return EventBus(self.node, self.opts)

    def start(self) -> None:
        self.process = subprocess.Popen([sys.executable, "-m", "tests.unit.bus.a_bus", self.node, self.config], cwd=CHECKOUT)
        deadline = time.monotonic() + START_TIMEOUT
        while not self.takes_connections():
            assert self.process.poll() is None, "the bus ended"
            assert time.monotonic() < deadline, "the bus does not come up"
            time.sleep(0.05)

    def takes_connections(self) -> bool:
        address = salts.pull_address(self.node, self.opts)
        assert isinstance(address, str)
        with socket.socket(socket.AF_UNIX) as probe:
            return probe.connect_ex(address) == 0

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()


@pytest.fixture(params=["master", "minion"])
def bus(request: pytest.FixtureRequest, short_dir: Path) -> Iterator[Bus]:
    found = Bus(request.param, short_dir)
    yield found
    found.stop()


def test_the_bus_is_found_heard_and_missed(bus: Bus) -> None:
    """A bus that goes away is no silence: whoever waits for it learns so at once."""
    client = bus.client()
    with pytest.raises(BusLostError):
        client.open()
    bus.start()
    client.open()
    assert client.receive("own/", 0.1) is None
    bus.client().fire("own/tag", {"of": "one"})
    bus.client().fire("other/tag", {"of": "two"})
    assert client.receive("own/", START_TIMEOUT) is not None
    assert client.receive("own/", 0.1) is None
    bus.stop()
    with pytest.raises(BusLostError):  # and not None after so many seconds
        client.receive("own/", START_TIMEOUT)
    with pytest.raises(BusLostError):
        client.open()


@pytest.mark.parametrize(("node", "option"), [("master", "tcp_master_pull_port"), ("minion", "tcp_pull_port")])
def test_a_bus_on_tcp_has_host_and_port(short_dir: Path, node: str, option: str) -> None:
    found = Bus(node, short_dir)
    port = free_tcp_port()
    assert salts.pull_address(node, {**found.opts, "ipc_mode": "tcp", option: port}) == ("127.0.0.1", port)


def test_a_socket_has_a_path_of_this_node_alone(short_dir: Path) -> None:
    """Two minions of one machine may share the folder of their sockets."""
    found = [Bus(node, short_dir / node) for node in ("master", "minion")]
    addresses = {salts.pull_address(bus.node, {**bus.opts, "sock_dir": str(short_dir), "id": name}) for bus in found for name in ("a", "b")}
    assert len(addresses) == 3
    assert all(os.path.dirname(str(address)) == str(short_dir) for address in addresses)
