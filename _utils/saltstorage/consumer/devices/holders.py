"""Who uses a block device, in words that an administrator can act on."""

from __future__ import annotations

import contextlib
import errno
import glob
import os
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from . import loop, mounts

#: How often, and after how many seconds each, is looked again at who may only be passing.
_LOOKS, _PAUSE = 3, 0.1
#: How often a device is tried that is open, and of which nobody can be named who has it open: whatever only looks at block devices (blkid,
#: lsblk, another job's grains) opens each for a moment, and is gone before it can be named.
TRIES = 20
_NO_DEVICES = ("socket:", "pipe:", "anon_inode:", "/memfd:", "/dev/null", "/dev/pts/", "/dev/urandom")


@dataclass(frozen=True)
class Holder:
    """One user of a block device."""

    kind: str  #: ``mount``, ``swap``, ``device`` (device mapper, LVM, md …), ``loop``, ``process`` or ``kernel``.
    text: str  #: What to name in a message: ``mounted on /srv``.
    path: str = ""  #: The mount point, of a mount in this process's namespace.

    def __str__(self) -> str:
        return self.text


def find(path: str, *, processes: bool = True, besides: str = "") -> list[Holder]:
    """Return who uses a block device, its partitions, or a device on top of it; this process is left out.

    Mounts in other mount namespaces (containers, services with private mounts) are found too, unless they are copies that the kernel
    takes away with the mount here, as services with ``PrivateMounts=`` have them of everything.  What cannot be named, such
    as a file system that was unmounted lazily, is found by asking the kernel for the device alone.

    :param path: a block device.
    :param besides: name of a device mapper device on top of it that is no user, nor are its own.
    :param processes: look also for processes that have it open, which is most of the work: each descriptor on the host is read.
    """
    rdev = os.stat(path).st_rdev
    numbers: dict[tuple[int, int], str] = {}
    result: list[Holder] = []
    base = os.path.realpath(f"/sys/dev/block/{os.major(rdev)}:{os.minor(rdev)}")
    left_out = _collect(base, numbers, result, besides)
    result += _mounts(numbers)
    result += _swaps(set(numbers))
    result += _loops(set(numbers))
    if processes:
        result += _processes(set(numbers))
    if not left_out and not any(holder.kind in ("mount", "swap", "device", "loop") for holder in result) and _claimed(path):
        result.append(Holder("kernel", "claimed in the kernel (a file system unmounted lazily, an exported target or a RAID)"))
    return list(dict.fromkeys(result))


def lasting(look: Callable[[], list[Holder]]) -> list[Holder]:
    """Return who uses a device and stays.

    Whatever lists block devices (blkid, lsblk, a monitoring agent, another minion's job) opens each for a moment, and that is no reason to
    refuse a detach. So a process counts when it is seen in each of a few looks, also beside a mount, which stays.

    :param look: returns who uses it now, as :func:`find` does.
    """
    found = look()
    for _ in range(_LOOKS):
        if all(holder.kind not in ("process", "kernel") for holder in found):
            break
        time.sleep(_PAUSE)
        again = look()
        found = [holder for holder in again if holder in found]
    return found


def describe(holders: list[Holder]) -> str:
    """Return the holders for a message: ``mounted on /srv; open in vim (process 812)``."""
    return "; ".join(str(holder) for holder in holders)


def _collect(base: str, numbers: dict[tuple[int, int], str], result: list[Holder], besides: str = "") -> bool:
    """Gather the numbers of a device, its partitions and all that is built on them; return whether ``besides`` was left out."""
    try:
        major, _, minor = _text(os.path.join(base, "dev")).partition(":")
        key = (int(major), int(minor))
    except ValueError:
        return False
    if key in numbers:
        return False
    left_out = False
    numbers[key] = os.path.basename(base)
    for partition in glob.glob(os.path.join(glob.escape(base), "*", "partition")):
        _collect(os.path.dirname(partition), numbers, result)
    for holder in glob.glob(os.path.join(glob.escape(base), "holders", "*")):
        top = os.path.realpath(holder)
        name, uuid = _text(os.path.join(top, "dm/name")), _text(os.path.join(top, "dm/uuid"))
        if besides and name == besides:
            left_out = True
            continue
        kind = "LVM volume" if uuid.startswith("LVM-") else "multipath device" if uuid.startswith("mpath-") else "device"
        result.append(Holder("device", f"used by the {kind} {name or os.path.basename(top)}"))
        _collect(top, numbers, result)
    return left_out


def _mounts(numbers: dict[tuple[int, int], str]) -> Iterator[Holder]:
    wanted = set(numbers)
    own = _namespace("self")
    seen = {own}
    groups = set()
    for mount in mounts.read():
        if mount.is_of(wanted):
            groups.add(mount.group)
            yield Holder("mount", f"mounted on {_shown(mount.path)}", mount.path)
    for pid in _pids():
        namespace = _namespace(pid)
        if namespace is None or namespace in seen:
            continue
        seen.add(namespace)
        with contextlib.suppress(OSError):
            for mount in mounts.read(f"/proc/{pid}/mountinfo"):
                if mount.is_of(wanted) and not {mount.group, mount.master} & (groups - {0}):
                    yield Holder("mount", f"mounted on {_shown(mount.path)} in the mount namespace of {_command(pid)} (process {pid})")
    # A btrfs may have this device as its second; then no mount names it.
    for name in numbers.values():
        for uuid in glob.glob(f"/sys/fs/btrfs/*-*/devices/{glob.escape(name)}"):
            yield Holder("mount", f"part of the mounted btrfs {uuid.split('/')[4]}")


def _swaps(numbers: set[tuple[int, int]]) -> Iterator[Holder]:
    with open("/proc/swaps", encoding="utf-8", errors="surrogateescape") as file:
        for line in file.read().splitlines()[1:]:
            path = line.split()[0].replace("\\040", " ")
            if _numbers_of(path) in numbers:
                yield Holder("swap", f"used as swap space ({_shown(path)})")


def _loops(numbers: set[tuple[int, int]]) -> Iterator[Holder]:
    for path, backing in loop.backing_files():
        if _numbers_of(backing) in numbers:
            yield Holder("loop", f"used by the loop device {path}")


def _processes(numbers: set[tuple[int, int]]) -> Iterator[Holder]:
    own = str(os.getpid())
    for pid in _pids():
        if pid == own:
            continue
        try:
            descriptors = os.listdir(f"/proc/{pid}/fd")
        except OSError:
            continue
        for descriptor in descriptors:
            path = f"/proc/{pid}/fd/{descriptor}"
            try:
                # Most descriptors are sockets, pipes and the like; their kind is cheaper to read than their status.
                if os.readlink(path).startswith(_NO_DEVICES):
                    continue
            except OSError:
                continue
            if _numbers_of(path) in numbers:
                yield Holder("process", f"open in {_command(pid)} (process {pid})")
                break


def _claimed(path: str) -> bool:
    """Return whether someone in the kernel has the device for himself."""
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_EXCL | os.O_CLOEXEC))
    except OSError as error:
        return error.errno == errno.EBUSY
    return False


def _numbers_of(path: str) -> tuple[int, int] | None:
    try:
        facts = os.stat(path)
    except (OSError, ValueError):
        return None
    return (os.major(facts.st_rdev), os.minor(facts.st_rdev)) if stat.S_ISBLK(facts.st_mode) else None


def _pids() -> list[str]:
    return [entry for entry in os.listdir("/proc") if entry.isdigit()]


def _namespace(pid: str) -> str | None:
    try:
        return os.readlink(f"/proc/{pid}/ns/mnt")
    except OSError:
        return None


def _command(pid: str) -> str:
    return _shown(_text(f"/proc/{pid}/comm")) or "a process"


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read().rstrip("\n")
    except OSError:
        return ""


def _shown(path: str) -> str:
    """Return a path or name that can be printed and sent, whatever bytes are in it."""
    return os.fsencode(path).decode("utf-8", "replace")
