"""A program of its own that keeps file systems frozen, and thaws them even if its caller dies.

The kernel keeps a file system frozen until a process thaws it, and does not thaw it when the
process that froze it ends. A state run may be killed, in the middle of a request to another
machine, so it must not freeze by itself. This program starts before anything is frozen, and thaws
at the caller's word, when its caller is gone, when a signal asks it to end, or when the time is
over.

It imports only the standard library, opens all files beforehand, and writes only to its pipe: the
frozen file system may have the log, the temporary files and this very program on it.

Arguments: seconds after which to thaw, process id of the caller, then mount points. The first line
of output is ``frozen``, or ``error NUMBER INDEX`` (errno, and number of the mount point) when
nothing was frozen. The last line is ``held`` when the caller's word came in time, else ``late``.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import sys
import time

FIFREEZE = 0xC0045877
FITHAW = 0xC0045878
#: How often to look whether the caller lives, seconds. Its end also closes the pipe, unless
#: another process inherited that.
_LOOK = 0.25


def main(arguments: list[str]) -> int:
    """Freeze, wait, thaw; return the exit code."""
    seconds, parent = float(arguments[0]), int(arguments[1])
    ended: list[int] = []
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM):
        signal.signal(number, lambda caught, _frame: ended.append(caught))
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    frozen: list[int] = []
    in_time = False
    files = []
    try:
        for index, path in enumerate(arguments[2:]):
            try:
                files.append(os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
            except OSError as error:
                _say(f"error {error.errno} {index}")
                return 1
        for index, file in enumerate(files):
            try:
                fcntl.ioctl(file, FIFREEZE, 0)
            except OSError as error:
                _thaw(frozen)
                _say(f"error {error.errno} {index}")
                return 1
            frozen.append(file)
        _say("frozen")
        in_time = _wait(time.monotonic() + seconds, parent, ended)
    finally:
        _thaw(frozen)
    _say("held" if in_time else "late")
    return 0


def _wait(deadline: float, parent: int, ended: list[int]) -> bool:
    """Wait for the caller's word to thaw, and return whether it came.

    The wait ends also when the caller or the time is gone, or when a signal comes.
    """
    while not ended and os.getppid() == parent and (left := deadline - time.monotonic()) > 0:
        ready, _, _ = select.select([0], [], [], min(left, _LOOK))
        if ready:
            return bool(os.read(0, 1))
    return False


def _thaw(files: list[int]) -> None:
    while files:
        file = files.pop()
        with contextlib.suppress(OSError):  # another process thawed it, or it is gone
            fcntl.ioctl(file, FITHAW, 0)
        os.close(file)


def _say(text: str) -> None:
    with contextlib.suppress(OSError):  # the caller is gone
        os.write(1, text.encode() + b"\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
