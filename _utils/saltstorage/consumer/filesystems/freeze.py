"""Freezing the file system on a volume while a snapshot is taken."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence

from ...errors import DeadlineExceededError, FailedPreconditionError, InternalError
from ..devices import mounts
from . import freezer


class Frozen:
    """File systems that are frozen.

    :ivar pid: id of the process that keeps them frozen.
    :ivar held: whether they stayed frozen until :meth:`thaw` was called; known after that.
    """

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self.pid = process.pid
        self.held = False

    def thaw(self) -> bool:
        """Thaw, and return whether they were frozen until now."""
        if self._process.stdin is not None and not self._process.stdin.closed:
            with contextlib.suppress(BrokenPipeError):
                os.write(self._process.stdin.fileno(), b"t")
            self.held = _read_line(self._process, 30.0) == "held"
            self._process.stdin.close()
        return self.held


@contextlib.contextmanager
def frozen(mount_points: Sequence[str], *, seconds: float, patience: float) -> Iterator[Frozen]:
    """Freeze file systems within the block: written data is on the device, and writers wait.

    They thaw when the block ends, when this process dies, or after ``seconds``, at the first of
    these. A process of its own does that; if it is killed, the end of the block thaws.

    :param mount_points: one mount point of each file system.
    :param seconds: longest time to keep them frozen.
    :param patience: how long freezing itself, which writes out the cache, may take, seconds.
    :raises FailedPreconditionError: one cannot be frozen, or is frozen already; then none is
        frozen.
    :raises DeadlineExceededError: freezing took too long. If it ends later, it is undone at once.

    >>> with frozen(["/srv"], seconds=30, patience=60) as hold:  # doctest: +SKIP
    ...     take_snapshot()
    ...     assert hold.thaw()
    """
    # Isolated: no site packages, no environment, nothing but this file. A session of its own keeps
    # signals for our process group away from it.
    command = [sys.executable, "-I", "-S", freezer.__file__, f"{seconds:.3f}", str(os.getpid()), *mount_points]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True, bufsize=0, cwd="/"
    )
    begun = False
    try:
        said = _read_line(process, patience)
        begun = said == "frozen"
        if not begun:
            raise _failure(said, mount_points, patience)
        hold = Frozen(process)
        yield hold
        hold.thaw()
    finally:
        _end(process)
        if begun and process.poll() != 0:
            # The process was killed, so nobody else thaws.
            thaw(mount_points)


def thaw(mount_points: Sequence[str]) -> list[str]:
    """Thaw file systems, also if others froze them; return the mount points of frozen ones."""
    thawed = []
    for path in mount_points:
        file = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.ioctl(file, freezer.FITHAW, 0)
            thawed.append(path)
        except OSError as error:
            if error.errno != errno.EINVAL:  # it is not frozen
                raise InternalError(f"the file system on {path} cannot be thawed: {error.strerror}") from None
        finally:
            os.close(file)
    return thawed


def mount_point(found: Sequence[mounts.Mount]) -> str | None:
    """Return a mount point that is not hidden by another mount; None if all are."""
    return next((m.path for m in found if mounts.state(m.path).top == m), None)


def _read_line(process: subprocess.Popen[bytes], timeout: float) -> str:
    """Return the next line of the process's output.

    It is empty when the process has ended, and ``timeout`` when it is silent for too long.
    """
    if process.stdout is None:
        raise InternalError("the process that freezes has no output")
    deadline = time.monotonic() + timeout
    text = b""
    while not text.endswith(b"\n"):
        ready, _, _ = select.select([process.stdout], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            return "timeout"
        part = os.read(process.stdout.fileno(), 1)
        if not part:
            return ""
        text += part
    return text.decode().strip()


def _failure(said: str, mount_points: Sequence[str], patience: float) -> FailedPreconditionError | DeadlineExceededError | InternalError:
    if said == "timeout":
        return DeadlineExceededError(f"the file system on {', '.join(mount_points)} could not be frozen within {patience:g} s")
    word, *numbers = said.split(" ")
    if word != "error":
        return InternalError(f"the process that freezes the file system on {', '.join(mount_points)} ended before it did so")
    code, path = int(numbers[0]), mount_points[int(numbers[1])]
    why = {
        errno.EBUSY: "it is frozen already, by someone else; if that was forgotten, storage.thaw thaws it",
        errno.EOPNOTSUPP: "its type cannot be frozen",
        errno.EPERM: "that needs root with CAP_SYS_ADMIN",
    }.get(code, os.strerror(code))
    return FailedPreconditionError(f"the file system on {path} cannot be frozen: {why}", field="freeze")


def _end(process: subprocess.Popen[bytes]) -> None:
    """Let the process thaw and end.

    A process that hangs in the kernel does so later: it notices the closed pipe.
    """
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(10.0)
