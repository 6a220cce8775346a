"""Growing file systems until they fill their devices."""

from __future__ import annotations

import ctypes
import fcntl
import os
import struct
from collections.abc import Callable

from ...errors import FailedPreconditionError, InternalError
from ..devices import block
from ..host import commands

_EXT = ("ext2", "ext3", "ext4")


def size(device: str, fstype: str, mount_point: str | None = None) -> tuple[int, int]:
    """Return the size of a file system and the smallest step by which it can grow, both in bytes.

    No command is run, so a state may ask each time.

    :param mount_point: where it is mounted; without it, only the size of an ext file system can be
        read.
    :raises FailedPreconditionError: the type of file system cannot grow, or only when mounted.
    """
    if fstype in _EXT:
        return _ext_size(device)
    reader = _SIZES.get(fstype)
    if reader is None:
        raise FailedPreconditionError(f"a file system of type {fstype} cannot grow; make a new one on a larger volume")
    if mount_point is None:
        raise FailedPreconditionError(f"a file system of type {fstype} can grow only when it is mounted")
    return reader(mount_point)


def can_grow(device: str, fstype: str, mount_point: str | None = None) -> bool:
    """Return whether a file system is smaller than its device and could fill it.

    The answer is False also for a type that cannot grow, and for an unmounted file system that
    would have to be mounted.
    """
    if fstype not in _EXT and (fstype not in _SIZES or mount_point is None):
        return False
    used, step = size(device, fstype, mount_point)
    return block.size(device) - used >= step


def check_growable(fstype: str) -> None:
    """Check, before its device grows, that a mounted file system can grow.

    :raises FailedPreconditionError: its type cannot grow, the command is not installed, or this
        process may not grow it.
    """
    if fstype in _EXT:
        commands.find("resize2fs")
        if not may_use_resources():
            raise FailedPreconditionError(
                f"cannot grow a mounted {fstype} file system: the kernel asks for CAP_SYS_RESOURCE, which this minion lacks; "
                "unmount it, and it is grown before it is mounted again"
            )
    elif fstype in _SIZES:
        commands.find("xfs_growfs" if fstype == "xfs" else "btrfs")
    else:
        raise FailedPreconditionError(f"a file system of type {fstype} cannot grow; make a new one on a larger volume")


def grow(device: str, fstype: str, mount_point: str | None = None, *, timeout: float = 3600.0) -> bool:
    """Let a file system fill its device and return whether it had to grow.

    :param mount_point: where it is mounted; without it, an ext file system is checked and grown
        unmounted, and other types refuse.
    :param timeout: how long a command may run, seconds.
    :raises FailedPreconditionError: its type cannot grow this way, the command is not installed,
        or this process may not grow it.
    """
    used, step = size(device, fstype, mount_point)
    if block.size(device) - used < step:
        return False
    what = f"grow the file system on {device}"
    if fstype in _EXT:
        if mount_point is None:
            # resize2fs demands a check first. Exit code 1: errors were corrected.
            commands.run(f"check the file system on {device}", ["e2fsck", "-f", "-p", device], timeout=timeout, ok=(0, 1))
        else:
            check_growable(fstype)
        commands.run(what, ["resize2fs", device], timeout=timeout)
    elif fstype == "xfs":
        commands.run(what, ["xfs_growfs", str(mount_point)], timeout=timeout)
    else:
        commands.run(what, ["btrfs", "filesystem", "resize", "max", str(mount_point)], timeout=timeout)
    now, _ = size(device, fstype, mount_point)
    if now <= used:
        raise InternalError(f"cannot {what}: the command succeeded, but it still has {now} bytes")
    return True


def may_use_resources() -> bool:
    """Return whether this process has CAP_SYS_RESOURCE; root in a container may not."""
    with open("/proc/self/status", encoding="ascii", errors="replace") as file:
        effective = next((line.split()[1] for line in file if line.startswith("CapEff:")), "0")
    return bool(int(effective, 16) & 1 << 24)


def _ext_size(device: str) -> tuple[int, int]:
    # The superblock lies at 1024; ext4 keeps it in the page cache of the device, so this read sees
    # the present contents.
    superblock = block.read(device, 0, 2048)[1024:]
    blocks_low, log_block_size, per_group = struct.unpack_from("<4xI16xI4xI", superblock)
    magic, incompat = struct.unpack_from("<H", superblock, 0x38)[0], struct.unpack_from("<I", superblock, 0x60)[0]
    if magic != 0xEF53:
        raise InternalError(f"{device} should have an ext superblock, and has none")
    blocks_high = struct.unpack_from("<I", superblock, 0x150)[0] if incompat & 0x80 else 0
    block_size = 1024 << log_block_size
    # resize2fs adds no last group that would be too small for its own tables.
    return ((blocks_high << 32) + blocks_low) * block_size, per_group * block_size


def _xfs_size(mount_point: str) -> tuple[int, int]:
    # The kernel is asked: XFS keeps the superblock in a cache of its own, and the device may have
    # old contents.
    class Geometry(ctypes.Structure):  # struct xfs_fsop_geom_v1
        _fields_ = [("words", ctypes.c_uint32 * 8), ("datablocks", ctypes.c_uint64), ("rest", ctypes.c_uint8 * 72)]

    geometry = Geometry()
    _ioctl(mount_point, 0x80705864, geometry)  # XFS_IOC_FSGEOMETRY_V1
    block_size = geometry.words[0]
    # XFS makes no allocation group of fewer than 64 blocks.
    return geometry.datablocks * block_size, 64 * block_size


def _btrfs_size(mount_point: str) -> tuple[int, int]:
    class DeviceInfo(ctypes.Structure):  # struct btrfs_ioctl_dev_info_args
        _fields_ = [
            ("devid", ctypes.c_uint64),
            ("uuid", ctypes.c_uint8 * 16),
            ("bytes_used", ctypes.c_uint64),
            ("total_bytes", ctypes.c_uint64),
            ("rest", ctypes.c_uint8 * (4096 - 40)),
        ]

    info = DeviceInfo(devid=1)
    _ioctl(mount_point, 0xD000941E, info)  # BTRFS_IOC_DEV_INFO
    return info.total_bytes, 2**20


def _ioctl(mount_point: str, request: int, argument: ctypes.Structure) -> None:
    fd = os.open(mount_point, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.ioctl(fd, request, argument)
    finally:
        os.close(fd)


#: Types that grow only while they are mounted, and how to ask the kernel for their size.
_SIZES: dict[str, Callable[[str], tuple[int, int]]] = {"xfs": _xfs_size, "btrfs": _btrfs_size}
#: Types that grow while they are mounted.
GROW_MOUNTED = (*_EXT, *_SIZES)
