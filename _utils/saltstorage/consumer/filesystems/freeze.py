"""Holding the file system on a volume still while a snapshot is taken."""

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

    :ivar held: whether they were so until :meth:`thaw` was called; known after that.
    """

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self.held = False

    def thaw(self) -> bool:
        """Thaw, and return whether they were frozen until now."""
        if self._process.stdin is not None and not self._process.stdin.closed:
            with contextlib.suppress(BrokenPipeError):
                os.write(self._process.stdin.fileno(), b"t")
            self.held = _line(self._process, 30.0) == "held"
            self._process.stdin.close()
        return self.held


@contextlib.contextmanager
def frozen(mount_points: Sequence[str], *, seconds: float, patience: float) -> Iterator[Frozen]:
    """Hold file systems frozen within the block: what was written is on the device, and who writes waits.

    They are thawed when the block ends, when this process dies, and after ``seconds``, whichever comes first. A process of its own
    sees to that; should it be killed, the block's end thaws.

    :param mount_points: one of each file system.
    :param seconds: longest time to hold them.
    :param patience: how long freezing itself, which writes out what is cached, may take, seconds.
    :raises FailedPreconditionError: one cannot be frozen, or is frozen already; none is frozen then.
    :raises DeadlineExceededError: freezing took too long. It may yet happen, and is undone at once.

    >>> with frozen(["/srv"], seconds=30, patience=60) as hold:  # doctest: +SKIP
    ...     take_snapshot()
    ...     assert hold.thaw()
    """
    # Isolated: no site packages, no environment, nothing but this file. In a session of its own, so that signals for a group pass it by.
    command = [sys.executable, "-I", "-S", freezer.__file__, f"{seconds:.3f}", str(os.getpid()), *mount_points]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True, bufsize=0, cwd="/"
    )
    begun = False
    try:
        said = _line(process, patience)
        begun = said == "frozen"
        if not begun:
            raise _failed(said, mount_points, patience)
        hold = Frozen(process)
        yield hold
        hold.thaw()
    finally:
        _end(process)
        if begun and process.poll() != 0:
            # It was killed, and nobody else thaws.
            thaw(mount_points)


def thaw(mount_points: Sequence[str]) -> list[str]:
    """Thaw file systems, whoever froze them, and return the mount points of those that were frozen."""
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
    """Return a place by which the file system that these mounts are of can be reached; None when each is hidden by another mount."""
    return next((m.path for m in found if mounts.state(m.path).top == m), None)


def _line(process: subprocess.Popen[bytes], timeout: float) -> str:
    """Return the next line that the process says; empty when it ended, ``timeout`` when it says nothing for so long."""
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


def _failed(said: str, mount_points: Sequence[str], patience: float) -> FailedPreconditionError | DeadlineExceededError | InternalError:
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
    """Have the process thaw and end. One that hangs in the kernel is left to do so once it can: it sees that nobody waits."""
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(10.0)
