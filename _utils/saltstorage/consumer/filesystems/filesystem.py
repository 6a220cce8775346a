"""Making file systems on empty devices, and letting them grow."""

from __future__ import annotations

import ctypes
import fcntl
import os
import re
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ...errors import AlreadyExistsError, FailedPreconditionError, InternalError, InvalidArgumentError
from ..devices import block
from ..devices.probe import EMPTY, FILESYSTEM, UNKNOWN, Probe, probe
from ..host import commands


@dataclass(frozen=True)
class _Kind:
    #: Option that sets the label.
    label: str
    #: Longest label, bytes.
    label_bytes: int
    #: Options that keep mkfs from asking or refusing; given only when the device may be written.
    quiet: tuple[str, ...]
    #: Options that let mkfs go over what an interrupted mkfs left.
    force: tuple[str, ...]


_KINDS = {
    **dict.fromkeys(("ext2", "ext3", "ext4"), _Kind("-L", 16, ("-q", "-F"), ("-F",))),
    "xfs": _Kind("-L", 12, ("-q",), ("-f",)),
    "btrfs": _Kind("-L", 255, ("-q",), ("-f",)),
    "vfat": _Kind("-n", 11, ("-I",), ()),
}
FSTYPES = tuple(_KINDS)
#: Options that name another device or file beside the volume, and any path: mkfs.btrfs takes one for a further device, and wipes that.
_ELSEWHERE = re.compile(r"/|(?:device|logdev|rtdev|name|file)\s*=")
_EXT = ("ext2", "ext3", "ext4")


def check(fstype: str, options: Sequence[str] = (), label: str | None = None) -> None:
    """Check what :func:`make` would be given, before anything is done.

    :raises InvalidArgumentError: an unknown type, a label that is too long, or options that are no list of strings or name something
        else than the volume.
    :raises FailedPreconditionError: the command is not installed; the package is named.
    """
    if fstype not in _KINDS:
        raise InvalidArgumentError(f"fstype {fstype!r} is not known; one of {', '.join(_KINDS)}", field="fstype")
    if isinstance(options, str) or not all(isinstance(option, str) for option in options):
        raise InvalidArgumentError("mkfs options must be a list of strings", field="mkfs_options")
    if any(_ELSEWHERE.search(option) for option in options):
        raise InvalidArgumentError("mkfs_options may name no path and no other device: only the volume is written to", field="mkfs_options")
    if label is not None and (not label or len(label.encode()) > _KINDS[fstype].label_bytes):
        raise InvalidArgumentError(f"label {label!r} must have 1 to {_KINDS[fstype].label_bytes} bytes for {fstype}", field="label")
    commands.find(f"mkfs.{fstype}")


def make(
    device: str, fstype: str, *, options: Sequence[str] = (), label: str | None = None, resume: bool = False, timeout: float = 3600.0
) -> Probe:
    """Make a file system on an empty device, sync it, and return what is now on it.

    The caller makes sure that the volume was never formatted before; this function that there is nothing on it.

    :param device: a block device.
    :param fstype: ext2, ext3, ext4, xfs, btrfs or vfat.
    :param options: further options for mkfs, one string each: ``["-m", "0"]``.
    :param label: label of the file system.
    :param resume: this host's record says that it was making a file system here and did not finish, so what it left may
        be overwritten; another type of file system may not.
    :param timeout: how long mkfs may run, seconds.
    :raises AlreadyExistsError: there is a file system already.
    :raises FailedPreconditionError: there is something else, or mkfs is not installed.
    :raises UnavailableError: the device cannot be read.
    """
    check(fstype, options, label)
    found = probe(device)
    left_over = resume and (found.kind == UNKNOWN or unfinished(device, found))
    if found.kind == FILESYSTEM and not left_over:
        raise AlreadyExistsError(f"the device {device} has {found} already; it is never formatted again")
    if found.kind != EMPTY and not left_over:
        raise FailedPreconditionError(
            f"the device {device} holds {found}, and is not formatted; empty it with wipefs or dd if it is not needed"
        )
    kind = _KINDS[fstype]
    force = tuple(option for option in kind.force if left_over and option not in kind.quiet)
    labels = (kind.label, label) if label is not None else ()
    # In the root, where no devices are: an option may be a name, and who calls may be in /dev.
    commands.run(
        f"make a file system of type {fstype} on {device}",
        [f"mkfs.{fstype}", *kind.quiet, *force, *labels, *options, os.path.abspath(device)],
        timeout=timeout,
        folder="/",
    )
    block.flush(device)
    made = probe(device)
    if made.kind != FILESYSTEM or made.fstype != fstype:
        raise InternalError(f"mkfs.{fstype} ended well, and {device} now holds {made}")
    return made


def unfinished(device: str, found: Probe) -> bool:
    """Return whether what was found is a file system whose making was cut off, so that it was never mounted.

    mkfs.xfs writes a superblock first and clears a mark in it at the end; the kernel mounts none with that mark. The others write their
    superblock last, so that what they leave has no signature.
    """
    if found.kind != FILESYSTEM or found.fstype != "xfs":
        return False
    return block.read(device, 0, 512)[126] != 0  # sb_inprogress of struct xfs_dsb


def size(device: str, fstype: str, mount_point: str | None = None) -> tuple[int, int]:
    """Return the size of a file system and the smallest step by which it can grow, both in bytes.

    Runs no command, so that a state may ask each time.

    :param mount_point: where it is mounted; without it, only an ext file system says its size.
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

    False also for a type that cannot grow, and for one that is not mounted and would have to be.
    """
    if fstype not in _EXT and (fstype not in _SIZES or mount_point is None):
        return False
    used, step = size(device, fstype, mount_point)
    return block.size(device) - used >= step


def check_growable(fstype: str) -> None:
    """Check whether a mounted file system can follow its device, before that grows.

    :raises FailedPreconditionError: its type cannot grow, the command is not installed, or this process may not grow it.
    """
    if fstype in _EXT:
        commands.find("resize2fs")
        if not _may_use_resources():
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

    :param mount_point: where it is mounted; without it, an ext file system is checked and grown unmounted, and others refuse.
    :param timeout: how long a command may run, seconds.
    :raises FailedPreconditionError: its type cannot grow so, the command is not installed, or this process may not grow it.
    """
    used, step = size(device, fstype, mount_point)
    if block.size(device) - used < step:
        return False
    what = f"grow the file system on {device}"
    if fstype in _EXT:
        if mount_point is None:
            # resize2fs wants it checked. 1: errors were corrected.
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
        raise InternalError(f"cannot {what}: the command ended well, and it still has {now} bytes")
    return True


def _may_use_resources() -> bool:
    """Return whether this process has CAP_SYS_RESOURCE; root in a container may not."""
    with open("/proc/self/status", encoding="ascii", errors="replace") as file:
        effective = next((line.split()[1] for line in file if line.startswith("CapEff:")), "0")
    return bool(int(effective, 16) & 1 << 24)


def _ext_size(device: str) -> tuple[int, int]:
    # The superblock lies at 1024; ext4 keeps it in the page cache of the device, so this read sees the present one.
    superblock = block.read(device, 0, 2048)[1024:]
    blocks_low, log_block_size, per_group = struct.unpack_from("<4xI16xI4xI", superblock)
    magic, incompat = struct.unpack_from("<H", superblock, 0x38)[0], struct.unpack_from("<I", superblock, 0x60)[0]
    if magic != 0xEF53:
        raise InternalError(f"{device} has no ext superblock, but was expected to")
    blocks_high = struct.unpack_from("<I", superblock, 0x150)[0] if incompat & 0x80 else 0
    block_size = 1024 << log_block_size
    # resize2fs leaves out a last group that would be too small for its own tables.
    return ((blocks_high << 32) + blocks_low) * block_size, per_group * block_size


def _xfs_size(mount_point: str) -> tuple[int, int]:
    # Asked of the kernel: XFS keeps the superblock in a cache of its own, and what is on the device may be old.
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


#: File systems that grow mounted only, and how to ask the kernel for their size.
_SIZES: dict[str, Callable[[str], tuple[int, int]]] = {"xfs": _xfs_size, "btrfs": _btrfs_size}
#: Types that grow while they are mounted.
GROW_MOUNTED = (*_EXT, *_SIZES)
