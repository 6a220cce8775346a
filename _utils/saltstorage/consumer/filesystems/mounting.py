"""Mounting and unmounting.

Each argument reaches the command unchanged: mount points may have quotes and spaces.  Salt's
``mount`` module puts its arguments between single quotes in a command line and splits the line
again, so a quote in a name breaks it, or worse.
"""

from __future__ import annotations

import contextlib
import fcntl
import glob
import os
import re
import struct
import time

from ...errors import FailedPreconditionError, InternalError
from ..devices import mounts
from ..host import commands, heartbeat

#: Exit code of mount(8) and umount(8) for every refusal by the kernel ("mount failure").
_FAILED = 32
#: Matches the message of mount(8) for a device that is mounted, or is being mounted.
_BUSY = re.compile("already mounted|busy")
#: Seconds to wait for a mount that another process began; it may have to read the log of the file
#: system.
_MEANWHILE = 20
#: XFS_IOC_GOINGDOWN of xfs_fs.h, which ext4 and F2FS adopted; and its flag that leaves the log
#: unwritten too.
_GOING_DOWN = 0x8004587D
_NO_LOG_FLUSH = 2


def mount(device: str, mount_point: str, fstype: str, options: str, *, timeout: float) -> None:
    """Mount a device.

    :param options: as for ``mount -o``.
    :param timeout: seconds.
    :raises FailedPreconditionError: the kernel refused.
    """
    command = ["mount", "-t", fstype, "-o", options, "--", device, mount_point]
    code, _, err = commands.run(f"mount {device} on {mount_point}", command, timeout=timeout, ok=(0, _FAILED))
    if code and not (_BUSY.search(err) and _wait_for_other_mount(device, mount_point)):
        raise FailedPreconditionError(f"{device} could not be mounted on {mount_point}: {err.strip() or 'the kernel log says why'}")
    found = mounts.state(mount_point, device)
    if found.right and found.stacked and found.mounts[-2].device == found.mounts[-1].device:
        # Another process was first, and mount(8) of util-linux 2.39 and later does not refuse the
        # second. Both are the same; if one is in use already, both stay.
        commands.run(f"unmount {mount_point}, mounted twice", ["umount", "--", mount_point], timeout=timeout, ok=(0, _FAILED))
    if not found.right:
        raise InternalError(f"mount succeeded, but another device than {device} is mounted on {mount_point}")


def _wait_for_other_mount(device: str, mount_point: str) -> bool:
    """Return whether another process mounts the device there at this moment.

    systemd does: since boot it waits for the device of each entry in the table of file systems.
    """
    deadline = time.monotonic() + _MEANWHILE
    with heartbeat.watch("mount", f"wait until {device} is mounted on {mount_point}"):
        while not mounts.state(mount_point, device).right:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)
    return True


def unmount(mount_point: str, *, timeout: float) -> None:
    """Unmount a directory.

    :param timeout: seconds; a large cache can take long to write.
    :raises FailedPreconditionError: it is in use; the message names the processes.
    """
    code, _, err = commands.run(f"unmount {mount_point}", ["umount", "--", mount_point], timeout=timeout, ok=(0, _FAILED))
    if code:
        who = "; ".join(users(mount_point)) or err.strip()
        raise FailedPreconditionError(f"{mount_point} cannot be unmounted, it is in use: {who}")


def detach(mount_point: str, *, timeout: float) -> None:
    """Stop a file system without further writes, and take its mount away even if it is in use.

    Its users get errors.  Types other than XFS, ext4 and F2FS cannot be stopped; the kernel may
    still try to write their cache.

    :param timeout: seconds.
    :raises FailedPreconditionError: the kernel refused.
    """
    with contextlib.suppress(OSError):
        fd = os.open(mount_point, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.ioctl(fd, _GOING_DOWN, struct.pack("I", _NO_LOG_FLUSH))
        finally:
            os.close(fd)
    code, _, err = commands.run(f"unmount {mount_point}", ["umount", "--lazy", "--", mount_point], timeout=timeout, ok=(0, _FAILED))
    if code:
        raise FailedPreconditionError(f"{mount_point} cannot be unmounted: {err.strip()}")


def users(mount_point: str) -> list[str]:
    """Return the processes that use a mounted file system, in words for a message."""
    try:
        device = os.stat(mount_point).st_dev
    except OSError:
        return []
    found = []
    for process in glob.glob("/proc/[0-9]*"):
        links = [f"{process}/cwd", f"{process}/root", f"{process}/exe", *glob.glob(f"{process}/fd/*")]
        if any(_is_on(link, device) for link in links):
            with contextlib.suppress(OSError), open(f"{process}/comm", encoding="utf-8", errors="replace") as file:
                found.append(f"{file.read().strip()} (process {os.path.basename(process)})")
    return found


def _is_on(path: str, device: int) -> bool:
    try:
        return os.stat(path).st_dev == device
    except OSError:
        return False
