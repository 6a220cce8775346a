"""Find and remove processes, mounts and loop devices below a folder."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import time
from collections.abc import Collection
from pathlib import Path


def mounts(root: Path) -> list[str]:
    """Return the mount points below ``root``, innermost first."""
    found = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        # Blanks and the like are written as octal numbers.
        path = re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), line.split()[4])
        if Path(path).is_relative_to(root):
            found.append(path)
    return sorted(found, reverse=True)


def loops(root: Path) -> list[str]:
    """Return the loop devices over files below ``root``."""
    found = []
    for backing in Path("/sys/block").glob("loop*/loop/backing_file"):
        with contextlib.suppress(OSError):  # gone since
            if backing.read_text().startswith(f"{root}/"):
                found.append(f"/dev/{backing.parts[3]}")
    return found


def processes(root: Path, sessions: Collection[int]) -> list[int]:
    """Return the processes of the given sessions, and those that work in ``root``; not
    this one.
    """
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # gone since
            # After the name in brackets. A zombie has ended.
            state, _parent, _group, session = (entry / "stat").read_text().rpartition(")")[2].split()[:4]
            if state == "Z" or int(entry.name) == os.getpid():
                continue
            if int(session) in sessions or (entry / "cwd").readlink().is_relative_to(root):
                found.append(int(entry.name))
    return found


def clean(root: Path, sessions: Collection[int]) -> list[str]:
    """Stop, unmount and detach everything below ``root``, and return the failures."""
    # Daemons first, or they attach again. Ask, then insist.
    for signum, patience in ((signal.SIGTERM, 4.0), (signal.SIGKILL, 5.0)):
        for pid in processes(root, sessions):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signum)
        deadline = time.monotonic() + patience
        while processes(root, sessions) and time.monotonic() < deadline:
            time.sleep(0.05)
    for path in mounts(root):
        subprocess.run(["umount", path], check=False)
    for device in loops(root):
        subprocess.run(["losetup", "--detach", device], check=False)
    # The kernel detaches a loop device when its last user has let go, which may be a moment later.
    deadline = time.monotonic() + 5
    while loops(root) and time.monotonic() < deadline:
        time.sleep(0.05)
    return [*mounts(root), *loops(root), *(f"process {pid}" for pid in processes(root, sessions))]
