"""The mount table, with devices compared by their numbers and never by their names alone."""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass

_OCTAL = re.compile(rb"\\([0-7]{3})")


@dataclass(frozen=True)
class Mount:
    """One line of ``mountinfo``."""

    device: tuple[int, int]  #: Major and minor number of the file system's device; btrfs has an anonymous number.
    root: str  #: Mounted directory of the file system; not ``/`` for a bind mount of a part.
    path: str  #: Mount point.
    options: str  #: Options of this mount, such as ``rw,noatime``.
    fstype: str  #: Type of the file system.
    source: str  #: Device, as mount(8) got it.
    super_options: str  #: Options of the file system.
    #: Peer group; mounts of one group, also in different namespaces, come and go together; 0 for
    #: none.
    group: int = 0
    master: int = 0  #: Peer group that this mount follows; 0 for none.

    @property
    def read_only(self) -> bool:
        """Whether this mount, or the whole file system, is read-only."""
        return "ro" in (*self.options.split(","), *self.super_options.split(","))

    def is_of(self, numbers: set[tuple[int, int]]) -> bool:
        """Return whether the file system is on one of these devices (major and minor numbers)."""
        if self.device in numbers:
            return True
        # btrfs has an anonymous device number; only its source names its device.
        if self.device[0] != 0 or not self.source.startswith("/"):
            return False
        try:
            facts = os.stat(self.source)
        except OSError:
            return False
        return stat.S_ISBLK(facts.st_mode) and (os.major(facts.st_rdev), os.minor(facts.st_rdev)) in numbers


@dataclass(frozen=True)
class MountState:
    """The mounts on one directory."""

    mounts: tuple[Mount, ...]  #: From the lowest to the uppermost, which hides the others.
    right: bool  #: Whether the uppermost is the whole file system of the wanted device.

    @property
    def mounted(self) -> bool:
        """Whether anything is mounted there."""
        return bool(self.mounts)

    @property
    def stacked(self) -> bool:
        """Whether mounts hide one another."""
        return len(self.mounts) > 1

    @property
    def top(self) -> Mount | None:
        """The uppermost mount, which hides the others."""
        return self.mounts[-1] if self.mounts else None


def read(path: str = "/proc/self/mountinfo") -> list[Mount]:
    """Return all mounts of a process, in the order in which they were made.

    :raises OSError: the process is gone.
    """
    with open(path, "rb") as file:
        return [_parse(line) for line in file.read().splitlines() if line]


def state(mount_point: str, device: str | None = None) -> MountState:
    """Return the mounts on a directory.

    :param mount_point: absolute path; symbolic links in it are followed.
    :param device: the wanted block device.

    >>> state("/proc").top.fstype
    'proc'
    """
    path = os.path.realpath(mount_point)
    found = tuple(mount for mount in read() if mount.path == path)
    numbers: set[tuple[int, int]] = set()
    if device is not None:
        try:
            rdev = os.stat(device).st_rdev
            numbers = {(os.major(rdev), os.minor(rdev))}
        except OSError:
            pass
    right = bool(found) and found[-1].root == "/" and found[-1].is_of(numbers)
    return MountState(mounts=found, right=right)


def of_device(device: str) -> list[Mount]:
    """Return the mounts, in this mount namespace, of the file system on a device."""
    rdev = os.stat(device).st_rdev
    numbers = {(os.major(rdev), os.minor(rdev))}
    return [mount for mount in read() if mount.is_of(numbers)]


def _parse(line: bytes) -> Mount:
    # 36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue
    left, _, right = line.partition(b" - ")
    fields = left.split(b" ")
    kind, source, super_options = [*right.split(b" "), b"", b""][:3]
    major, _, minor = fields[2].partition(b":")
    propagation = dict(word.split(b":") for word in fields[6:] if b":" in word)
    return Mount(
        device=(int(major), int(minor)),
        root=_decode(fields[3]),
        path=_decode(fields[4]),
        options=_decode(fields[5]),
        fstype=_decode(kind),
        source=_decode(source),
        super_options=_decode(super_options),
        group=int(propagation.get(b"shared", 0)),
        master=int(propagation.get(b"master", 0)),
    )


def _decode(text: bytes) -> str:
    """Undo the kernel's escapes of blanks, newlines and backslashes, such as backslash 040."""
    return os.fsdecode(_OCTAL.sub(lambda match: bytes([int(match[1], 8)]), text))
