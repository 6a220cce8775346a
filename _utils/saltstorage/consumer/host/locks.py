"""Locks of the volumes of this host: one job at a time on a volume."""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
import time
from collections.abc import Iterator

from ...errors import AbortedError
from .records import file_name


class VolumeLocks:
    """Reentrant locks between the processes and threads of a host, one for each volume.

    :param directory: where the lock files are; created with mode 0700.
    :param timeout: how long to wait for another holder, seconds.
    :param what: the kind of thing that is locked, for the message.
    """

    def __init__(self, directory: str, timeout: float, what: str = "the volume") -> None:
        self.directory = directory
        self.timeout = timeout
        self.what = what
        self._held = threading.local()

    @contextlib.contextmanager
    def hold(self, name: str) -> Iterator[None]:
        """Hold the lock of a volume.

        :raises AbortedError: another job held it for longer than the timeout; the message names
            its process.
        """
        held: dict[str, int] = self._held.__dict__
        if name in held:
            held[name] += 1
            try:
                yield
            finally:
                held[name] -= 1
            return
        path = os.path.join(self.directory, file_name(name).removesuffix(".json") + ".lock")
        fd = self._take(path, name)
        held[name] = 1
        try:
            yield
        finally:
            del held[name]
            # Removed while held, so that no lock file outlives its volume; `_take` notices that.
            os.unlink(path)
            os.close(fd)

    def _take(self, path: str, name: str) -> int:
        os.makedirs(self.directory, mode=0o700, exist_ok=True)
        deadline = time.monotonic() + self.timeout
        while True:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if _same_file(fd, path):
                    os.ftruncate(fd, 0)
                    os.pwrite(fd, str(os.getpid()).encode(), 0)
                    return fd
                os.close(fd)
                continue  # The former holder removed it between our open and our lock.
            except BlockingIOError:
                holder = os.pread(fd, 32, 0).decode("ascii", "replace")
                os.close(fd)
            except BaseException:
                os.close(fd)
                raise
            if time.monotonic() >= deadline:
                raise AbortedError(
                    f"another job (process {holder or 'unknown'}) has worked on {self.what} {name!r} for over {self.timeout:g} s; "
                    "try again when it has ended"
                )
            time.sleep(0.02)


def _same_file(fd: int, path: str) -> bool:
    try:
        there = os.stat(path)
    except FileNotFoundError:
        return False
    return os.path.samestat(os.fstat(fd), there)
