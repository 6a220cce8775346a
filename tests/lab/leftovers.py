"""Name the leftovers of a run of the lab, and fail when there are any:
``python -m tests.lab.leftovers RUN``.

Namespaces take with them what belongs to them; this tells when they do not. Everything is known
by the name of the run, which no other one has, so other labs and the machine's own devices are
not taken for it:

* a process: the mounts that it sees have that name, as only those in the run's namespaces do;
* a mount outside of the namespaces, by its source or folder;
* a loop device, by the folder of its file; loop devices are in no namespace;
* a network device outside of the namespaces, by its alias.

A network namespace, with its contents, lives only as long as a process in it: the lab gives none a
name.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from pathlib import Path

#: How long the kernel may take to unmount file systems and free their loop devices after the last
#: process, seconds.
PATIENCE = 30.0


def found(run: str) -> list[str]:
    """Return the leftovers of a run, one line each.

    :param run: its name.
    """
    mounts = [f"mount: {line}" for line in _read(Path("/proc/self/mountinfo")).splitlines() if run in line]
    # All processes see mounts outside of namespaces.
    return [*(mounts or _processes(run)), *_devices(run)]


def _processes(run: str) -> Iterator[str]:
    for process in Path("/proc").glob("[0-9]*"):
        if run in _read(process / "mountinfo"):
            yield f"process: {process.name} {_read(process / 'cmdline').replace(chr(0), ' ').strip()}"


def _devices(run: str) -> Iterator[str]:
    for device in Path("/sys/block").glob("loop*"):
        if run in (file := _read(device / "loop/backing_file")):
            yield f"loop device: {device.name} {file.strip()}"
    for device in Path("/sys/class/net").glob("*"):
        if run in _read(device / "ifalias"):
            yield f"network device: {device.name}"


def _read(path: Path) -> str:
    # It may have gone meanwhile, or have ended and be a zombie.
    with contextlib.suppress(OSError):
        return path.read_text(errors="replace")
    return ""


def main(run: str, patience: float = PATIENCE) -> int:
    """Wait until nothing is left, or name the leftovers; return the exit code."""
    deadline = time.monotonic() + patience
    while left := found(run):
        if time.monotonic() > deadline:
            print("The lab left on this machine:", *left, sep="\n  ", file=sys.stderr)
            return 1
        time.sleep(0.2)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
