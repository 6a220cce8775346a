"""Making file systems on empty devices."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass

from ...errors import AlreadyExistsError, FailedPreconditionError, InternalError, InvalidArgumentError
from ..devices import block
from ..devices.probe import EMPTY, FILESYSTEM, UNKNOWN, Probe, probe
from ..host import commands


@dataclass(frozen=True)
class _Kind:
    label: str  #: Option that sets the label.
    label_bytes: int  #: Longest label, bytes.
    quiet: tuple[str, ...]  #: Options that keep mkfs from asking or refusing; the device may be written by then.
    force: tuple[str, ...]  #: Options that let mkfs overwrite the remains of an interrupted mkfs.


_KINDS = {
    **dict.fromkeys(("ext2", "ext3", "ext4"), _Kind("-L", 16, ("-q", "-F"), ("-F",))),
    "xfs": _Kind("-L", 12, ("-q",), ("-f",)),
    "btrfs": _Kind("-L", 255, ("-q",), ("-f",)),
    "vfat": _Kind("-n", 11, ("-I",), ()),
}
FSTYPES = tuple(_KINDS)
#: Matches options that name a device or file beside the volume, and any path: mkfs.btrfs takes a
#: path for a further device, and wipes it.
_ELSEWHERE = re.compile(r"/|(?:device|logdev|rtdev|name|file)\s*=")


def check(fstype: str, options: Sequence[str] = (), label: str | None = None) -> None:
    """Check the arguments of :func:`make`, before anything is done.

    :raises InvalidArgumentError: an unknown type, a label that is too long, or options that are no
        list of strings or name something else than the volume.
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
    """Make a file system on an empty device, sync it, and return the new contents.

    The caller makes sure that the volume was never formatted before; this function makes sure that
    the device is empty.

    :param device: a block device.
    :param fstype: ext2, ext3, ext4, xfs, btrfs or vfat.
    :param options: further options for mkfs, one string each: ``["-m", "0"]``.
    :param label: label of the file system.
    :param resume: this host's record says that it was making a file system here and did not
        finish, so the remains of that may be overwritten; another type of file system may not.
    :param timeout: how long mkfs may run, seconds.
    :raises AlreadyExistsError: there is a file system already.
    :raises FailedPreconditionError: there is other data, or mkfs is not installed.
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
    # Run in /, which has no devices: an option may be a relative name, and this process may run in
    # /dev.
    commands.run(
        f"make a file system of type {fstype} on {device}",
        [f"mkfs.{fstype}", *kind.quiet, *force, *labels, *options, os.path.abspath(device)],
        timeout=timeout,
        folder="/",
    )
    block.flush(device)
    made = probe(device)
    if made.kind != FILESYSTEM or made.fstype != fstype:
        raise InternalError(f"mkfs.{fstype} succeeded, but {device} now holds {made}")
    return made


def unfinished(device: str, found: Probe) -> bool:
    """Return whether a found file system was never finished by its mkfs, and so never mounted.

    mkfs.xfs writes a superblock first and clears a mark in it at the end; the kernel refuses to
    mount a file system with that mark. The other programs write their superblock last, so their
    remains have no signature.

    :param found: the contents of the device.
    """
    if found.kind != FILESYSTEM or found.fstype != "xfs":
        return False
    return block.read(device, 0, 512)[126] != 0  # sb_inprogress of struct xfs_dsb
