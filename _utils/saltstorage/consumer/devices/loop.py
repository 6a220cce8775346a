"""Loop devices: the block device over a volume that is a file.

This module uses the kernel's own interface and not ``losetup``, which can neither mark the owner
of a device nor tell whether it attached or found a device.  The backing file of a device is known
by its device number and inode, never by its path.

Each device carries the tag of the consumer that made it.  Two consumers on one machine (two
minions, or tests beside a real minion) then get a device each for a shared file, as two hosts
would, and each detaches only its own; and a consumer that died half way finds its own device
again.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import hashlib
import os
import stat
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from ...errors import FailedPreconditionError, NotFoundError, ResourceExhaustedError

_SET_FD, _CLR_FD, _SET_STATUS64, _GET_STATUS64 = 0x4C00, 0x4C01, 0x4C04, 0x4C05
_SET_CAPACITY, _CONFIGURE, _CTL_GET_FREE = 0x4C07, 0x4C0A, 0x4C82
_READ_ONLY, _AUTOCLEAR, _DIRECT_IO = 1, 4, 16
_MAJOR = 7
#: Sets whether a device refuses writes; linux/fs.h.
BLKROSET = 0x125D
#: A fixed sector size: a file system made with one must find the same after the file has moved to
#: another disk.
_SECTOR = 512
_TRIES = 64


class _Info(ctypes.Structure):
    """``struct loop_info64`` of linux/loop.h."""

    _fields_ = [
        ("device", ctypes.c_uint64),
        ("inode", ctypes.c_uint64),
        ("rdevice", ctypes.c_uint64),
        ("offset", ctypes.c_uint64),
        ("sizelimit", ctypes.c_uint64),
        ("number", ctypes.c_uint32),
        ("encrypt_type", ctypes.c_uint32),
        ("encrypt_key_size", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
        ("file_name", ctypes.c_char * 64),
        ("crypt_name", ctypes.c_char * 64),
        ("encrypt_key", ctypes.c_uint8 * 32),
        ("init", ctypes.c_uint64 * 2),
    ]


class _Config(ctypes.Structure):
    """``struct loop_config`` of linux/loop.h."""

    _fields_ = [
        ("fd", ctypes.c_uint32),
        ("block_size", ctypes.c_uint32),
        ("info", _Info),
        ("reserved", ctypes.c_uint64 * 8),
    ]


@dataclass(frozen=True)
class LoopStatus:
    """The backing file of a loop device, and the settings of the device."""

    path: str  #: Path of the device, such as ``/dev/loop3``.
    file_device: int  #: Device number of the file system that has the file.
    inode: int  #: Inode of the file.
    backing_file: str  #: Path of the file, as the kernel shows it; a deleted file ends in `` (deleted)``.
    tag: str  #: Tag of the consumer that made it; ``losetup`` writes the file's path there.
    read_only: bool  #: Whether it refuses writes.
    plain: bool  #: Whether it is over the whole file.


def tag(state_dir: str) -> str:
    """Return the tag of the consumer with this state directory."""
    return "salt-storage:" + hashlib.sha256(os.path.realpath(state_dir).encode()).hexdigest()[:32]


def status(path: str) -> LoopStatus | None:
    """Return the status of a loop device; None without a backing file, or for other devices."""
    try:
        facts = os.stat(path)
        if not stat.S_ISBLK(facts.st_mode) or os.major(facts.st_rdev) != _MAJOR:
            return None
        with _open(path, os.O_RDONLY) as fd:
            return _status(fd, path, facts.st_rdev)
    except OSError as error:
        if error.errno in (errno.ENXIO, errno.ENOENT, errno.ENODEV):
            return None
        raise


def find(file: str, owner_tag: str) -> list[LoopStatus]:
    """Return the loop devices over a file that carry this consumer's tag, or no consumer's tag."""
    facts = os.stat(file)
    return _find_usable(facts.st_dev, facts.st_ino, owner_tag)


def attach(file: str, owner_tag: str, *, read_only: bool = False) -> str:
    """Return the path of the loop device over a file.

    An earlier device of the same consumer is used again.

    :param file: a regular file.
    :param owner_tag: the consumer's tag; see :func:`tag`.
    :raises NotFoundError: there is no such file.
    :raises FailedPreconditionError: the file has a loop device of another kind, or the kernel has
        no loop devices.
    :raises ResourceExhaustedError: the kernel makes no more loop devices.
    """
    try:
        # Opened before the lock is taken: the file may be on a server that does not answer.
        with _open(file, os.O_RDONLY if read_only else os.O_RDWR) as backing, _lock():
            facts = os.fstat(backing)
            for found in _find_usable(facts.st_dev, facts.st_ino, owner_tag):
                if not found.plain or found.read_only != read_only:
                    kind = "for reading only" if found.read_only else "for writing"
                    part = "" if found.plain else " over a part of it"
                    raise FailedPreconditionError(f"{file} is attached {kind} as {found.path}{part}; detach that first (losetup -d)")
                if found.tag != owner_tag:
                    _mark(found.path, owner_tag)
                return found.path
            return _configure(backing, owner_tag, read_only)
    except FileNotFoundError:
        raise NotFoundError(f"{file}, the file of the volume, does not exist; is its file system mounted on this host?") from None


def detach(path: str) -> bool:
    """Detach a loop device from its file and return whether that was possible.

    For a device that is open, the kernel reports success, and detaches when the device is closed.
    Then the request is undone and the result is False.
    """
    if status(path) is None:
        return True
    # One descriptor does it all: while it is open, the number cannot become another file's.
    with _open(path, os.O_RDONLY) as fd:
        try:
            fcntl.ioctl(fd, _CLR_FD, 0)
        except OSError as error:
            if error.errno == errno.EBUSY:
                return False
            if error.errno != errno.ENXIO:
                raise
        if not _has_file(fd):
            # The kernel keeps this setting with the number, and the next user of the number could
            # not write.
            fcntl.ioctl(fd, BLKROSET, struct.pack("i", 0))
            return True
        info = _Info()
        fcntl.ioctl(fd, _GET_STATUS64, info)
        info.flags &= ~_AUTOCLEAR
        fcntl.ioctl(fd, _SET_STATUS64, info)
    return False


def refresh_size(path: str) -> None:
    """Let a loop device take the present size of its file."""
    with _open(path, os.O_RDONLY) as fd:
        fcntl.ioctl(fd, _SET_CAPACITY, 0)


def _configure(backing: int, owner_tag: str, read_only: bool) -> str:
    for _ in range(_TRIES):
        path = _find_free()
        try:
            with _open(path, os.O_RDONLY if read_only else os.O_RDWR) as fd:
                info = _Info(flags=_DIRECT_IO | (_READ_ONLY if read_only else 0), file_name=owner_tag.encode())
                try:
                    fcntl.ioctl(fd, _CONFIGURE, _Config(fd=backing, block_size=_SECTOR, info=info))
                except OSError as error:
                    if error.errno not in (errno.EINVAL, errno.ENOTTY):
                        raise
                    # Before Linux 5.8. The device has no tag between the two calls; `find` returns
                    # it all the same.
                    fcntl.ioctl(fd, _SET_FD, backing)
                    fcntl.ioctl(fd, _SET_STATUS64, _Info(file_name=owner_tag.encode()))
                return path
        except OSError as error:
            # Another process took this number first; the next try gets another.
            if error.errno not in (errno.EBUSY, errno.ENXIO):
                raise
    raise ResourceExhaustedError("no free loop device was found; detach unused ones (losetup -a)")


def _find_usable(device: int, inode: int, owner_tag: str) -> list[LoopStatus]:
    return [s for s in _find_over(device, inode) if s.tag == owner_tag or not s.tag.startswith("salt-storage:")]


@contextlib.contextmanager
def _lock() -> Iterator[None]:
    """Keep other processes from making a second device over the same file.

    The lock is on a device of this host and not on the file: NFS asks its server for a lock, and
    demands that the file is open for writing.
    """
    with _open_control() as control:
        fcntl.flock(control, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def _open_control() -> Iterator[int]:
    try:
        file = os.open("/dev/loop-control", os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENODEV, errno.ENXIO):
            raise
        raise FailedPreconditionError("this kernel has no loop devices; load the module: modprobe loop") from None
    try:
        yield file
    finally:
        os.close(file)


def _mark(path: str, owner_tag: str) -> None:
    """Put this consumer's tag on a device without a tag, such as from ``losetup``."""
    with _open(path, os.O_RDONLY) as fd:
        info = _Info()
        fcntl.ioctl(fd, _GET_STATUS64, info)
        info.file_name = owner_tag.encode()
        fcntl.ioctl(fd, _SET_STATUS64, info)


def _find_free() -> str:
    with _open_control() as control:
        try:
            minor = fcntl.ioctl(control, _CTL_GET_FREE)
        except OSError as error:
            raise ResourceExhaustedError(f"the kernel gives no loop device: {error.strerror}") from None
    path = f"/dev/loop{minor}"
    if not os.path.exists(path):
        # Some containers have no devtmpfs.
        with contextlib.suppress(FileExistsError):
            os.mknod(path, stat.S_IFBLK | 0o660, os.makedev(_MAJOR, minor))
    return path


def backing_files() -> Iterator[tuple[str, str]]:
    """Yield the paths of each loop device in use and of its backing file."""
    for name in os.listdir("/sys/block"):
        if name.startswith("loop"):
            with contextlib.suppress(OSError), open(f"/sys/block/{name}/loop/backing_file", errors="surrogateescape") as file:
                yield f"/dev/{name}", file.read().rstrip("\n")


def _find_over(device: int, inode: int) -> Iterator[LoopStatus]:
    for path, _ in backing_files():
        found = status(path)
        if found is not None and (found.file_device, found.inode) == (device, inode):
            yield found


def _status(fd: int, path: str, rdev: int) -> LoopStatus:
    info = _Info()
    fcntl.ioctl(fd, _GET_STATUS64, info)
    try:
        with open(f"/sys/dev/block/{_MAJOR}:{os.minor(rdev)}/loop/backing_file", encoding="utf-8", errors="surrogateescape") as file:
            backing = file.read().rstrip("\n")
    except FileNotFoundError:
        backing = ""
    return LoopStatus(
        path=path,
        file_device=info.device,
        inode=info.inode,
        backing_file=backing,
        tag=info.file_name.decode("utf-8", "replace"),
        read_only=bool(info.flags & _READ_ONLY),
        plain=info.offset == 0 and info.sizelimit == 0,
    )


def _has_file(fd: int) -> bool:
    """Return whether a loop device, given by its descriptor, has a backing file."""
    try:
        fcntl.ioctl(fd, _GET_STATUS64, _Info())
    except OSError as error:
        if error.errno != errno.ENXIO:
            raise
        return False
    return True


@contextlib.contextmanager
def _open(path: str, flags: int) -> Iterator[int]:
    fd = os.open(path, flags | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)
