"""Both ends of a connection: one asks, one carries out and says hello first."""

from __future__ import annotations

import logging
import select
import socket
import threading
from collections.abc import Callable, Mapping
from typing import Any

from ..errors import InternalError, LostError, StorageError, from_wire
from ..faults import as_storage_error
from . import frames

log = logging.getLogger(__name__)

#: How long the hello may take, seconds. A process that was just started imports much first.
HELLO_TIMEOUT = 60.0

#: Takes how far a call has come: plain data, as the end that carries it out sends it.
Step = Callable[[Mapping[str, Any]], None]
#: Carries out a call: ``handle(op, args, step)``; ``step`` may be called in any thread, also
#: never. It returns plain data, or raises.
Handle = Callable[[str, dict[str, Any], Step], Any]


class Connection:
    """The end that asks. One call at a time; a second thread waits for its turn.

    :param sock: a connected stream socket; it is the connection's from now on.
    :param timeout: how long the other end's hello may take, seconds.
    :ivar hello: the other end's facts about itself, such as its version.
    :ivar broken: whether it cannot be used any more.
    :raises LostError: there was no hello.
    """

    def __init__(self, sock: socket.socket, *, timeout: float = HELLO_TIMEOUT) -> None:
        self._sock = sock
        self._lock = threading.Lock()
        self.broken = False
        try:
            sock.settimeout(timeout)
            hello = (frames.receive(sock) or {}).get("hello")
            if not isinstance(hello, dict):
                raise LostError("the other end ended, or does not speak this protocol")
        except BaseException:
            sock.close()
            raise
        self.hello: dict[str, Any] = hello

    def call(self, op: str, args: Mapping[str, Any], *, step: Step | None = None, timeout: float | None = None) -> Any:
        """Have the other end carry out ``op``, and return its answer.

        :param op: name of the call.
        :param args: its arguments; plain data.
        :param step: takes how far it has come.
        :param timeout: how long the other end may be silent, seconds; None: as long as it takes. A
            connection whose other end was silent for too long is not usable any more.
        :raises StorageError: the other end raised it.
        :raises LostError: the other end went away, or was silent for too long; whether it carried
            the call out is not known.
        """
        with self._lock:
            if self.broken:
                raise LostError("the connection was lost before")
            try:
                self._sock.settimeout(timeout)
                frames.send(self._sock, {"op": op, "args": dict(args)})
                while (frame := frames.receive(self._sock)) is not None:
                    if "step" in frame:
                        if step is not None:
                            step(frame["step"])
                    elif "error" in frame:
                        raise from_wire(frame["error"])
                    elif "ok" in frame:
                        return frame["ok"]
                    else:
                        break
                raise LostError("the other end ended")
            except (StorageError, LostError) as exc:
                self.broken = self.broken or isinstance(exc, LostError)
                raise
            except BaseException:  # such as an interrupt: the answer would be taken for the next call's
                self.broken = True
                raise

    def left(self) -> bool:
        """Return whether the other end has closed the connection, as far as is known by now."""
        poll = select.poll()
        poll.register(self._sock, select.POLLRDHUP)
        return self.broken or bool(poll.poll(0))

    def abandon(self) -> None:
        """Leave the connection to the process that this one was forked from."""
        self.broken = True
        self._sock.close()

    def close(self) -> None:
        """Close the connection; also ends a call that another thread waits for."""
        self.broken = True
        try:
            self._sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            log.debug("storage: the connection was closed by the other end")
        self._sock.close()


def serve(sock: socket.socket, handle: Handle, hello: Mapping[str, Any]) -> None:
    """Carry out the calls of one connection until the other end closes it, or goes away.

    :param sock: a connected stream socket; it is closed at the end.
    :param handle: carries out a call. Any exception of it is an answer.
    :param hello: facts about this end, which it says first.
    """
    with sock:
        sock.settimeout(None)
        try:
            frames.send(sock, {"hello": dict(hello)})
            while (frame := frames.receive(sock)) is not None:
                _answer(sock, frame, handle)
        except LostError as exc:
            log.debug("storage: a connection ended: %s", exc)


def watch(sock: socket.socket, lost: Callable[[], None]) -> None:
    """Call ``lost`` in a thread of its own as soon as the other end of a connection closes it or
    goes away, also while a call is carried out.
    """

    def wait() -> None:
        poll = select.poll()
        poll.register(sock, select.POLLRDHUP)
        poll.poll()
        lost()

    threading.Thread(target=wait, name="storage-watch", daemon=True).start()


def _answer(sock: socket.socket, frame: Mapping[str, Any], handle: Handle) -> None:
    sending = threading.Lock()
    ended = False

    def step(said: Mapping[str, Any]) -> None:
        with sending:
            if not ended:
                try:
                    frames.send(sock, {"step": dict(said)})
                except LostError:
                    # The asking end went away. The call goes on; its end finds out.
                    log.debug("storage: nobody waits for a call any more")

    answer: dict[str, Any]
    try:
        op, args = frame.get("op"), frame.get("args")
        if not isinstance(op, str) or not isinstance(args, dict):
            raise InternalError("a call is malformed")
        answer = {"ok": handle(op, args, step)}
    except BaseException as exc:  # the other end must hear of any fault; some libraries even exit
        answer = {"error": as_storage_error(exc, "a call").to_wire()}
    with sending:
        ended = True
        try:
            frames.send(sock, answer)
        except StorageError as exc:
            # The result was no plain data, or too large.
            frames.send(sock, {"error": exc.to_wire()})
