"""A process of its own that holds file systems frozen, and thaws them whatever happens to who asked for it.

The kernel keeps a file system frozen until someone thaws it, not until the process that froze it ends. So who freezes must not be
who may be killed: a state run, in the middle of a request to another machine. This program is started before anything is frozen,
and thaws when it is told to, when its caller is gone, when a signal asks it to end, or when the time is over.

It imports nothing but the standard library, opens all it needs beforehand, and writes to its pipe alone: the file system that it
holds may be the one that has the log, the temporary files and this very program.

Arguments: seconds after which to thaw, then mount points. On standard output it says ``frozen``, or ``error NUMBER INDEX`` (errno,
and which mount point) when it froze nothing; at the end ``held`` when it was told to thaw in time, else ``late``.
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
#: How often to look whether the caller lives. Its end also closes the pipe, unless another process inherited that.
_LOOK = 0.25


def main(arguments: list[str]) -> int:
    """Freeze, wait, thaw; return the exit code."""
    seconds, parent = float(arguments[0]), int(arguments[1])
    ended: list[int] = []
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM):
        signal.signal(number, lambda caught, _frame: ended.append(caught))
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    frozen: list[int] = []
    told = False
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
        told = _wait(time.monotonic() + seconds, parent, ended)
    finally:
        _thaw(frozen)
    _say("held" if told else "late")
    return 0


def _wait(deadline: float, parent: int, ended: list[int]) -> bool:
    """Wait for the word to thaw and return True; False when the caller or the time is gone, or this process is told to end."""
    while not ended and os.getppid() == parent and (left := deadline - time.monotonic()) > 0:
        ready, _, _ = select.select([0], [], [], min(left, _LOOK))
        if ready:
            return bool(os.read(0, 1))
    return False


def _thaw(files: list[int]) -> None:
    while files:
        file = files.pop()
        with contextlib.suppress(OSError):  # thawed by someone else, or gone
            fcntl.ioctl(file, FITHAW, 0)
        os.close(file)


def _say(text: str) -> None:
    with contextlib.suppress(OSError):  # nobody listens any more
        os.write(1, text.encode() + b"\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
