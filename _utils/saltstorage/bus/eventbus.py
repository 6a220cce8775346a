"""One process's connection to an event bus of this machine: the master's, or the minion's."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from typing import Any

import salt.utils.event
from salt.exceptions import SaltException

from . import salts
from .salts import StreamClosedError

CONNECT_TIMEOUT = 5.0


class BusLostError(Exception):
    """Nobody serves the event bus, or it went away while in use."""


class EventBus:
    """Hears and fires events on an event bus of this machine.

    Salt's own subscriber ignores its time-out and waits without end for a bus that went away; this
    one raises.

    :param node: ``master`` or ``minion``.
    :param opts: Salt's options of that daemon.
    """

    def __init__(self, node: str, opts: Mapping[str, Any]) -> None:
        self._node = node
        self._opts = opts
        self._event: Any = None

    def open(self) -> None:
        """Connect, so that every event from now on is heard.

        :raises BusLostError: nobody serves the bus.
        :raises PermissionError: this user may not use it.
        """
        if self._event is not None:
            return
        self._probe()
        event = salt.utils.event.get_event(self._node, sock_dir=self._opts["sock_dir"], opts=self._opts, listen=False, raise_errors=True)
        try:
            if not event.connect_pub(timeout=CONNECT_TIMEOUT):
                raise BusLostError
        except BaseException:
            event.destroy()
            raise
        salts.fail_when_closed(event)
        self._event = event

    def receive(self, tag: str, wait: float) -> tuple[str, Any] | None:
        """Return tag and data of the next event whose tag begins with ``tag``, or None after
        ``wait`` seconds.

        :raises BusLostError: the bus went away.
        """
        self.open()
        try:
            # 0 would mean for ever.
            event = self._event.get_event(wait=max(wait, 0.01), tag=tag, match_type="startswith", full=True)
        except StreamClosedError:
            self.close()
            raise BusLostError from None
        return None if event is None else (event["tag"], event["data"])

    def fire_master(self, tag: str, data: dict[str, Any]) -> None:
        """Have the minion of this machine pass an event on to its masters; whether they get it is
        not known.

        :raises BusLostError: the bus went away.
        """
        self.open()
        try:
            sent = self._event.fire_master(data, tag)
        except (StreamClosedError, OSError, SaltException):
            sent = False
        if not sent:
            self.close()
            raise BusLostError

    def fire(self, tag: str, data: dict[str, Any]) -> None:
        """Fire an event on this very bus, without subscribing to it. May be called in any thread.

        :raises BusLostError: nobody serves the bus, or it did not take the event.
        :raises PermissionError: this user may not use it.
        """
        with self._unsubscribed() as event:
            self._sent(event.fire_event, data, tag)

    def pass_on(self, tag: str, data: dict[str, Any]) -> None:
        """Do what :meth:`fire_master` does, without subscribing to the bus. May be called in any
        thread.

        :raises BusLostError: nobody serves the bus, or it did not take the event.
        :raises PermissionError: this user may not use it.
        """
        with self._unsubscribed() as event:
            self._sent(event.fire_master, data, tag)

    def close(self) -> None:
        """Free the sockets; the next use connects again."""
        event, self._event = self._event, None
        if event is not None:
            event.destroy()

    def _unsubscribed(self) -> Any:
        self._probe()
        return salt.utils.event.get_event(self._node, sock_dir=self._opts["sock_dir"], opts=self._opts, listen=False)

    @staticmethod
    def _sent(fire: Callable[..., Any], data: dict[str, Any], tag: str) -> None:
        try:
            sent = fire(data, tag, timeout=int(CONNECT_TIMEOUT * 1000))
        except (StreamClosedError, OSError) as exc:
            raise BusLostError from exc
        if not sent:
            raise BusLostError

    def _probe(self) -> None:
        """Raise at once when nobody serves the bus; Salt's client would retry in silence."""
        # The socket that takes events: on the other socket, Salt logs a subscriber that leaves at
        # once as slow.
        address = salts.pull_address(self._node, self._opts)
        try:
            if isinstance(address, str):
                with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
                    probe.settimeout(CONNECT_TIMEOUT)
                    probe.connect(address)
            else:
                socket.create_connection(address, timeout=CONNECT_TIMEOUT).close()
        except PermissionError:
            raise
        except OSError as exc:
            raise BusLostError from exc
