"""Facts about block devices, read from the kernel: identity, size, readability."""

from __future__ import annotations

import array
import contextlib
import errno
import fcntl
import glob
import os
import stat
import struct

from ...errors import DataLossError, UnavailableError
from ..host import commands, heartbeat
from ..host.records import Identity
from . import loop

_BLKFLSBUF = 0x1261
_BLKGETSIZE64 = 0x80081272
#: Size of a read past the page cache, so that the device itself answers; it suits every sector
#: size in use.
_BLOCK = 4096
#: The kernel's unit of sizes, also for a device with larger sectors.
_SECTOR = 512
#: Beginning of the UUID of a multipath map.
_MPATH = "mpath-"

GIB = 2**30
#: Largest step in which an array rounds sizes up: 8 GiB, of PowerFlex.
LARGEST_STEP = 8 * GIB


def is_block(path: str) -> bool:
    """Return whether the path is a block device that exists."""
    try:
        return stat.S_ISBLK(os.stat(path).st_mode)
    except OSError:
        return False


def number(path: str) -> tuple[int, int]:
    """Return the major and minor number of a block device."""
    rdev = os.stat(path).st_rdev
    return os.major(rdev), os.minor(rdev)


def sysfs(path: str) -> str:
    """Return the directory of a block device under ``/sys``."""
    major, minor = number(path)
    return os.path.realpath(f"/sys/dev/block/{major}:{minor}")


def size(path: str) -> int:
    """Return the size of a block device in bytes, as the kernel knows it now."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        buffer = array.array("Q", [0])
        fcntl.ioctl(fd, _BLKGETSIZE64, buffer)
        return buffer[0]
    finally:
        os.close(fd)


def identity(path: str) -> Identity:
    """Return the identity of a device.

    A disk whose storage is out of reach, and which cannot be opened, has one too.

    :raises OSError: it is gone.
    """
    base = sysfs(path)
    with open(os.path.join(base, "size"), encoding="ascii") as file:
        shown = int(file.read()) * _SECTOR
    status = loop.status(path)
    if status is not None:
        return Identity(size=shown, backing_file=status.backing_file, backing_inode=status.inode)
    # The serial number of an NVMe device belongs to its subsystem: other volumes have the same,
    # and Linux's target makes up another one at each start. A namespace's wwid has its own UUID,
    # NGUID or EUI-64, and the serial number only without them.
    nvme = os.path.exists(os.path.join(base, "nsid"))
    dm_uuid = _first(base, "dm/uuid")
    # A multipath map has the identity of each of its paths.
    unit = next(iter(_paths(base)), base) if dm_uuid.startswith(_MPATH) else base
    return Identity(
        size=shown,
        wwn=_first(unit, "wwid", "device/wwid", "nguid", "device/nguid"),
        serial="" if nvme else _first(unit, "serial", "device/serial") or _scsi_serial(unit),
        dm_uuid=dm_uuid,
        image=rbd_image(base),
        diskseq=int(_first(base, "diskseq") or 0),
    )


def rbd_image(base: str) -> str:
    """Return the image of a Ceph RBD device, ``volumes/volume-1 (id 10ab)``; empty for others.

    :param base: directory of the block device under ``/sys``; its ``device`` leads to
        ``/sys/bus/rbd/devices``.
    """
    pool, name, image_id = (_first(base, f"device/{key}") for key in ("pool", "name", "image_id"))
    return f"{pool}/{name} (id {image_id})" if pool and name and image_id else ""


def differences(recorded: Identity, found: Identity) -> list[str]:
    """Return the differences between a device and the recorded one, in words; empty if none.

    Sizes are not compared.  A recorded property that is missing now is a difference too: the
    device then cannot prove its identity. A recorded multipath map may have lost its paths, and
    with them their WWN and serial number; its UUID proves as much. A recorded path may belong to a
    multipath map by now.
    """
    own = () if recorded.dm_uuid else (("wwn", "WWN"), ("serial", "serial number"))
    fields = (
        *own,
        ("dm_uuid", "device mapper UUID"),
        ("backing_file", "backing file"),
        ("image", "RBD image"),
    )
    result = [
        f"{label} is {getattr(found, key) or 'missing'}, not {getattr(recorded, key)}"
        for key, label in fields
        if getattr(recorded, key) and getattr(recorded, key) != getattr(found, key)
    ]
    if recorded.backing_inode and recorded.backing_inode != found.backing_inode:
        result.append(f"inode of the backing file is {found.backing_inode}, not {recorded.backing_inode}")
    return result


def is_crypt(path: str) -> bool:
    """Return whether a path is the open device of an encrypted one."""
    return is_block(path) and _first(sysfs(path), "dm/uuid").startswith("CRYPT-")


def check_readable(path: str) -> None:
    """Read the first and the last block from the device itself.

    :raises UnavailableError: it cannot be read.
    """
    try:
        end = size(path)
        read(path, 0, min(_BLOCK, end), direct=True)
        read(path, max(0, end - _BLOCK), min(_BLOCK, end), direct=True)
    except OSError as error:
        raise UnavailableError(f"the device {path} cannot be read: {error.strerror}; check the path to the storage") from None


def read(path: str, offset: int, length: int, *, direct: bool = False) -> bytes:
    """Return ``length`` bytes of a device.

    :param direct: read past the page cache, if the device can.
    :raises OSError: the device cannot be read, or ends too early.
    """
    import mmap

    flags = os.O_RDONLY | os.O_CLOEXEC
    try:
        fd = os.open(path, flags | (os.O_DIRECT if direct else 0))
    except OSError as error:
        if not direct or error.errno != errno.EINVAL:
            raise
        fd = os.open(path, flags)
    try:
        with mmap.mmap(-1, max(length, 1)) as buffer:  # Page aligned, as O_DIRECT demands.
            done = os.preadv(fd, [memoryview(buffer)[:length]], offset) if length else 0
            if done != length:
                raise OSError(errno.EIO, f"{done} of {length} bytes read at {offset}")
            return buffer[:length]
    finally:
        os.close(fd)


def least(size_gib: int, *, adopted: bool) -> int:
    """Return the least number of bytes of the device of a volume of ``size_gib`` GiB.

    :param adopted: whether others made the volume: its size may be no whole number of GiB, and
        Cinder's drivers round it up.

    >>> least(2, adopted=False) / GIB
    2.0
    """
    return (size_gib - 1) * GIB + 1 if adopted else size_gib * GIB


def check_size(path: str, size_gib: int, *, grown: bool = False, adopted: bool = False) -> int:
    """Return the size of a device in bytes, if it can be a volume of ``size_gib`` GiB.

    A loop device has exactly the size of its volume.  Arrays may round up.

    :param grown: whether it may be larger, since its identity proves that it is the volume.
    :param adopted: see :func:`least`.
    :raises DataLossError: it is smaller, or larger than rounding explains: it is another volume,
        or an old size.
    """
    found = size(path)
    expected = size_gib * GIB
    step = 1 if loop.status(path) is not None else LARGEST_STEP
    if found < least(size_gib, adopted=adopted) or (found >= expected + step and not grown):
        raise DataLossError(
            f"the device {path} has {found} bytes and the volume {expected}: it may be another volume; "
            "look for an old device of the same LUN, and disconnect and connect the volume",
            details={"found": found, "expected": expected},
        )
    return found


def set_read_only(path: str, read_only: bool) -> None:
    """Let the kernel refuse writes to a device, or allow them.

    A loop device keeps the setting when it is detached, so each attachment must make its own.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.ioctl(fd, loop.BLKROSET, struct.pack("i", read_only))
    finally:
        os.close(fd)


def flush(path: str) -> None:
    """Write the cached data of a device to the storage, and drop the cache.

    :raises OSError: some data could not be written.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        with heartbeat.watch("flush", f"write the cached data of {path}"):
            os.fsync(fd)
            fcntl.ioctl(fd, _BLKFLSBUF, 0)
    finally:
        os.close(fd)


def cut_off(path: str) -> None:
    """Let every further read and write of a SCSI or multipath device fail at once.

    That includes writes from the cache. Other kinds of devices have no such switch; their target
    refuses this host by now.
    """
    base = sysfs(path)
    for each in (base, *_paths(base)):
        with contextlib.suppress(OSError), open(os.path.join(each, "device/state"), "w", encoding="ascii") as file:
            file.write("offline")
    name = _first(base, "dm/name")
    if _first(base, "dm/uuid").startswith(_MPATH):
        # Requests that wait for a path to come back must fail now.
        commands.run("let a multipath device fail", ["dmsetup", "message", name, "0", "fail_if_no_path"], timeout=60)


def top(path: str) -> str:
    """Return the multipath device over a path, else the path.

    multipathd may take a device that was attached with a single path; then only the multipath
    device may be used.
    """
    # A device that goes in this moment has no map, and the next look finds that it is gone.
    with contextlib.suppress(OSError):
        for holder in glob.glob(os.path.join(glob.escape(sysfs(path)), "holders", "dm-*")):
            if _first(holder, "dm/uuid").startswith(_MPATH):
                return f"/dev/{os.path.basename(holder)}"
    return path


def resize_map(path: str) -> None:
    """Let a multipath device take the size of its paths; any other device stays as it is."""
    base = sysfs(path)
    if _first(base, "dm/uuid").startswith(_MPATH):
        commands.run("resize a multipath device", ["multipathd", "resize", "map", _first(base, "dm/name")], timeout=60)


def _paths(base: str) -> list[str]:
    """Return the directories, under ``/sys``, of the devices below a device."""
    return sorted(os.path.realpath(slave) for slave in glob.glob(os.path.join(glob.escape(base), "slaves", "*")))


def boot_id() -> str:
    """Return the id of this boot; in another boot, a name such as ``/dev/sdc`` means nothing."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()


def _first(base: str, *names: str) -> str:
    for name in names:
        try:
            with open(os.path.join(base, name), encoding="utf-8", errors="replace") as file:
                text = " ".join(file.read().split())
        except OSError:
            continue
        if text.strip("0- "):  # An array without an NGUID shows zeros.
            return text
    return ""


def _scsi_serial(base: str) -> str:
    """Return the serial number of a SCSI device (page 0x80: a header of four bytes, then text)."""
    try:
        with open(os.path.join(base, "device/vpd_pg80"), "rb") as file:
            return file.read()[4:].decode("ascii", "replace").strip(" \0")
    except OSError:
        return ""
