"""Unix sockets with a path, and the users that may listen there or connect."""

from __future__ import annotations

import contextlib
import logging
import os
import pwd
import socket
import stat
import struct
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import LostError, PermissionDeniedError
from . import calls

log = logging.getLogger(__name__)

_UCRED = struct.Struct("3i")


@dataclass(frozen=True, kw_only=True)
class Peer:
    """The process at the other end of a connection, by the kernel's word."""

    pid: int
    uid: int
    gid: int

    @classmethod
    def of(cls, sock: socket.socket) -> Peer:
        """Return the peer of a connected Unix socket; for a connecting end, who listens."""
        pid, uid, gid = _UCRED.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
        return cls(pid=pid, uid=uid, gid=gid)


def connect(path: str, users: Collection[int], *, timeout: float = 5.0) -> calls.Connection:
    """Connect to the process that listens at ``path``.

    :param path: absolute path of the socket.
    :param users: ids of the users that may listen there, beside root and this process's own user.
    :param timeout: how long connecting and the hello may take, seconds.
    :raises LostError: nobody listens there.
    :raises PermissionDeniedError: this user may not connect, or somebody listens there who may
        not; each word there would reach them.
    """
    allowed = {0, os.geteuid(), *users}
    with contextlib.ExitStack() as stack:
        sock = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        sock.settimeout(timeout)
        try:
            with _short(path) as short:
                owner = os.stat(short, follow_symlinks=False)
                if not stat.S_ISSOCK(owner.st_mode) or owner.st_uid not in allowed:
                    raise _refused(path, owner.st_uid, "is not the socket of a user that may listen there")
                sock.connect(short)
        except PermissionError:
            raise PermissionDeniedError(
                f"{user_name(os.geteuid())} may not use the socket {path}; run this as root, or as the user or the group of that socket"
            ) from None
        except OSError as exc:
            raise LostError(f"nobody listens at {path} ({exc.strerror or type(exc).__name__})") from None
        if (peer := Peer.of(sock)).uid not in allowed:
            raise _refused(path, peer.uid, "is served by a user that may not listen there")
        stack.pop_all()
    return calls.Connection(sock, timeout=timeout)


class Listener:
    """Serves each connection to a path in a thread of its own.

    A socket that nobody listens at any more is replaced.

    :param path: absolute path; its directory must exist.
    :param mode: the socket's permissions.
    :param group: id of the socket's group; None: as the directory gives it.
    :param may: whether a peer may ask anything; it is asked before the hello.
    :raises LostError: somebody listens there already.
    :raises OSError: the socket cannot be made.
    """

    def __init__(self, path: str, *, may: Callable[[Peer], bool], mode: int = 0o600, group: int | None = None) -> None:
        self._path = path
        self._may = may
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        try:
            with _short(path) as short:
                self._replace_stale(short)
                former = os.umask(0o177)
                try:
                    self._socket.bind(short)
                finally:
                    os.umask(former)
                self._inode = os.stat(short).st_ino
                if group is not None:
                    os.chown(short, -1, group)
                os.chmod(short, mode)
                self._socket.listen(128)
        except BaseException:
            self._socket.close()
            raise

    def serve(self, handle: Callable[[Peer], calls.Handle], hello: Callable[[], Mapping[str, Any]]) -> None:
        """Take connections until :meth:`close`.

        :param handle: returns what carries out the calls of a peer.
        :param hello: returns what to say first on a connection.
        """
        while True:
            try:
                sock, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(sock, handle, hello), name="storage-connection", daemon=True).start()

    def close(self) -> None:
        """Take no more connections, close those that there are, and remove the socket."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        with contextlib.suppress(OSError), _short(self._path) as short:
            # A later process may have its own there by now.
            if os.stat(short).st_ino == self._inode:
                os.unlink(short)
        with self._lock:
            for sock in self._open:
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)

    def _serve(self, sock: socket.socket, handle: Callable[[Peer], calls.Handle], hello: Callable[[], Mapping[str, Any]]) -> None:
        with self._lock:
            self._open.add(sock)
        try:
            peer = Peer.of(sock)
            if not self._may(peer):
                log.warning("storage: %s was refused at the socket %s", user_name(peer.uid), self._path)
                sock.close()
                return
            calls.serve(sock, handle(peer), hello())
        finally:
            with self._lock:
                self._open.discard(sock)

    def _replace_stale(self, short: str) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            try:
                probe.connect(short)
            except FileNotFoundError:
                return
            except ConnectionRefusedError:
                os.unlink(short)
                return
        raise LostError(f"another process listens at {self._path} already")


@contextlib.contextmanager
def _short(path: str) -> Iterator[str]:
    """Yield a path of the same file that fits into a socket's address, which holds 107 bytes."""
    folder = os.open(os.path.dirname(path), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{os.path.basename(path)}"
    finally:
        os.close(folder)


def user_name(uid: int) -> str:
    """Return a user's name, or its number where it has none."""
    try:
        return f"the user {pwd.getpwuid(uid).pw_name}"
    except KeyError:
        return f"the user with the id {uid}"


def _refused(path: str, uid: int, text: str) -> PermissionDeniedError:
    return PermissionDeniedError(
        f"{path} {text} (it is {user_name(uid)}); nothing was sent there. Look what that process is, and remove the socket"
    )
