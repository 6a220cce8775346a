"""Where Salt 3006 and Salt 3008 differ: each place of the bus, with the reason.

Salt 3006 reads keys from files alone, has a copy of Tornado of its own, and makes the event bus of
other parts. Each function here asks Salt for what it has, and not for its version. Nothing
changes Salt itself.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import cryptography.exceptions
import salt.cache
import salt.crypt
import salt.transport
import salt.utils.event
import salt.utils.verify
from cryptography.hazmat.primitives import serialization
from salt.exceptions import SaltException

try:
    # Salt 3006 runs its own copy of Tornado 4, and raises the errors of that. Its packages have no
    # other.
    from salt.ext.tornado import gen
    from salt.ext.tornado.iostream import StreamClosedError
except ImportError:
    from tornado import gen
    from tornado.iostream import StreamClosedError

__all__ = ["KeyStore", "StreamClosedError", "fail_when_closed", "master_key", "public_key", "pull_address"]


def public_key(pem: str) -> salt.crypt.PublicKey:
    """Return the key that ``pem`` holds.

    Salt 3006 makes keys of files only. Its methods need no more than the attributes that are set
    here.

    :raises ValueError: this is no key.
    """
    try:
        key = serialization.load_pem_public_key(pem.encode())
    except cryptography.exceptions.UnsupportedAlgorithm as exc:
        raise ValueError("a kind of key that is not supported") from exc
    found = salt.crypt.PublicKey.__new__(salt.crypt.PublicKey)
    found.key = key
    found._verifier = None
    return found


def master_key(opts: Mapping[str, Any]) -> salt.crypt.PrivateKey:
    """Return the master's private key.

    :class:`salt.crypt.MasterKeys` itself signs from Salt 3008 on; its key does in both.
    """
    return salt.crypt.MasterKeys(opts).key


class _KeyFiles:
    """The public keys of minions as Salt 3006 keeps them: each state is a folder.

    From Salt 3008 on they are in a cache, whose default driver reads the same folders.
    """

    def __init__(self, opts: Mapping[str, Any]) -> None:
        self._opts = opts

    def accepted(self, minion: str) -> str | None:
        if os.path.lexists(self._path("minions_rejected", minion)):
            return None
        with open(self._path("minions", minion), encoding="utf-8") as file:
            return file.read()

    def minions(self) -> list[str]:
        folders = [self._path(name) for name in ("minions", "minions_pre", "minions_rejected")]
        return [name for folder in folders if os.path.isdir(folder) for name in os.listdir(folder) if not name.startswith(".")]

    def _path(self, *parts: str) -> str:
        return os.path.join(self._opts["pki_dir"], *parts)


class _KeyCache:
    """The public keys of minions in the cache of Salt 3008 and later."""

    def __init__(self, opts: Mapping[str, Any]) -> None:
        self._cache = salt.cache.Cache(opts, driver=opts["keys.cache_driver"])

    def accepted(self, minion: str) -> str | None:
        entry = self._cache.fetch("keys", minion)
        if not isinstance(entry, dict) or entry.get("state") != "accepted" or not isinstance(entry.get("pub"), str):
            return None
        pem: str = entry["pub"]
        return pem

    def minions(self) -> list[str]:
        return list(self._cache.list("keys"))


class KeyStore:
    """The public keys of minions on this master."""

    def __init__(self, opts: Mapping[str, Any]) -> None:
        self._opts = opts
        self._keys: _KeyCache | _KeyFiles = _KeyCache(opts) if "keys.cache_driver" in opts else _KeyFiles(opts)

    def accepted(self, minion: str) -> str | None:
        """Return the accepted key of ``minion`` in PEM, or None if it has none or the id is no
        valid one.
        """
        try:
            # Either may stumble over what a stranger calls itself: a lone surrogate, a name that
            # is too long.
            return self._keys.accepted(minion) if salt.utils.verify.valid_id(self._opts, minion) else None
        except (SaltException, OSError, ValueError):
            return None

    def minions(self) -> list[str]:
        """Return the ids that have a key, accepted or not; none without a master."""
        try:
            return self._keys.minions()
        except (SaltException, OSError):
            return []


def pull_address(node: str, opts: Mapping[str, Any]) -> str | tuple[str, int]:
    """Return the path, or the host and port, of the socket that takes events for the bus.

    :param node: ``master`` or ``minion``.
    :param opts: Salt's options of that daemon.
    """
    if hasattr(salt.transport, "ipc_publish_server"):
        server = salt.transport.ipc_publish_server(node, opts)
        server.close()
        return server.pull_path or (server.pull_host, server.pull_port)
    # Salt 3006 tells the address of a client alone.
    with salt.utils.event.get_event(node, sock_dir=opts["sock_dir"], opts=opts, listen=False) as event:
        return event.pulluri if isinstance(event.pulluri, str) else ("127.0.0.1", event.pulluri)


def fail_when_closed(event: Any) -> None:
    """Have a connected client of an event bus raise :class:`StreamClosedError` once the bus goes
    away.

    :param event: the client, connected and with ``raise_errors``.
    """
    subscriber = event.subscriber.obj
    if hasattr(subscriber, "disconnect_callback"):
        subscriber.disconnect_callback = _raise_closed
        return
    # The subscriber of Salt 3006 connects again by itself, and waits without end where nobody
    # serves the bus. It says None for both a lost bus and a silent one.

    @gen.coroutine
    def read(timeout: float | None) -> Any:
        if not subscriber.connected():
            raise StreamClosedError
        found = yield subscriber._read(timeout)
        if found is None and not subscriber.connected():
            raise StreamClosedError
        raise gen.Return(found)

    subscriber.read = read


async def _raise_closed() -> None:
    raise StreamClosedError
