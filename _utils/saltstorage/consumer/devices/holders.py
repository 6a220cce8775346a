"""The holders of a block device, its users, in words that help an administrator to stop them."""

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

#: How often to look again at a holder that may be gone soon, and the pause before each look,
#: seconds.
_LOOKS, _PAUSE = 3, 0.1
#: How often to try to detach a device that is open while no holder can be named: programs that
#: only look at block devices (blkid, lsblk, another job's grains) open each for a moment, and end
#: before they can be named.
TRIES = 20
_NO_DEVICES = ("socket:", "pipe:", "anon_inode:", "/memfd:", "/dev/null", "/dev/pts/", "/dev/urandom")


@dataclass(frozen=True)
class Holder:
    """One user of a block device."""

    #: ``mount``, ``swap``, ``device`` (device mapper, LVM, md …), ``loop``, ``process`` or
    #: ``kernel``.
    kind: str
    text: str  #: Its words in a message: ``mounted on /srv``.
    path: str = ""  #: The mount point, of a mount in this process's namespace.

    def __str__(self) -> str:
        return self.text


def find(path: str, *, processes: bool = True, besides: str = "") -> list[Holder]:
    """Return the holders of a block device, its partitions, or a device on top of it.

    This process does not count.  Mounts in other mount namespaces (containers, services with
    private mounts) count too, unless they are copies that the kernel takes away with the mount
    here; services with ``PrivateMounts=`` have such copies of all mounts.  A holder without a
    name, such as a file system that was unmounted lazily, is found by asking the kernel for
    exclusive use of the device.

    :param path: a block device.
    :param besides: name of a device mapper device on top of it; neither that device nor its
        holders count.
    :param processes: look also for processes that have it open. That is most of the work: each
        descriptor on the host is read.
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
    if not left_out and not any(holder.kind in ("mount", "swap", "device", "loop") for holder in result) and _is_claimed(path):
        result.append(Holder("kernel", "claimed in the kernel (a file system unmounted lazily, an exported target or a RAID)"))
    return list(dict.fromkeys(result))


def lasting(look: Callable[[], list[Holder]]) -> list[Holder]:
    """Return the holders that stay.

    Programs that list block devices (blkid, lsblk, a monitoring agent, another minion's job) open
    each for a moment, and that is no reason to refuse a detach. So a process counts only if each
    of a few looks finds it, also beside a mount, which stays.

    :param look: returns the present holders, as :func:`find` does.
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
    """Gather the numbers of a device and its dependents; return whether it left ``besides`` out."""
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
            yield Holder("mount", f"mounted on {_printable(mount.path)}", mount.path)
    for pid in _pids():
        namespace = _namespace(pid)
        if namespace is None or namespace in seen:
            continue
        seen.add(namespace)
        with contextlib.suppress(OSError):
            for mount in mounts.read(f"/proc/{pid}/mountinfo"):
                if mount.is_of(wanted) and not {mount.group, mount.master} & (groups - {0}):
                    yield Holder("mount", f"mounted on {_printable(mount.path)} in the mount namespace of {_command(pid)} (process {pid})")
    # No mount names the second device of a btrfs.
    for name in numbers.values():
        for uuid in glob.glob(f"/sys/fs/btrfs/*-*/devices/{glob.escape(name)}"):
            yield Holder("mount", f"part of the mounted btrfs {uuid.split('/')[4]}")


def _swaps(numbers: set[tuple[int, int]]) -> Iterator[Holder]:
    with open("/proc/swaps", encoding="utf-8", errors="surrogateescape") as file:
        for line in file.read().splitlines()[1:]:
            path = line.split()[0].replace("\\040", " ")
            if _numbers_of(path) in numbers:
                yield Holder("swap", f"used as swap space ({_printable(path)})")


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
                # Most descriptors are sockets, pipes and the like; reading their kind is cheaper
                # than their status.
                if os.readlink(path).startswith(_NO_DEVICES):
                    continue
            except OSError:
                continue
            if _numbers_of(path) in numbers:
                yield Holder("process", f"open in {_command(pid)} (process {pid})")
                break


def _is_claimed(path: str) -> bool:
    """Return whether a part of the kernel has the device for itself."""
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
    return _printable(_text(f"/proc/{pid}/comm")) or "a process"


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read().rstrip("\n")
    except OSError:
        return ""


def _printable(path: str) -> str:
    """Return a path or name with any bytes in it as text that can be printed and sent."""
    return os.fsencode(path).decode("utf-8", "replace")
