"""The contents of a block device, read so that the answer is never "empty" by mistake.

1. The first and the last MiB are read here.  An unreadable device is an error, and never empty: to
   ``blkid`` an unreadable device and an empty one look alike.
2. ``blkid`` looks at the device itself (not at its cache) for file systems, partition tables,
   RAID, LVM, LUKS and swap.  Contradicting signatures are an error.
3. Without a signature, the device is empty only if both MiB are zero.  Otherwise the answer is
   *unknown*: databases write to raw devices without a signature, and thick volumes may show old
   blocks.  On an open encrypted device only the first MiB decides, which is zeroed when the device
   is made: its unwritten blocks read as noise.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from ...errors import DataLossError, UnavailableError
from ..host import commands
from . import block

EMPTY = "empty"
FILESYSTEM = "filesystem"
OTHER = "other"
UNKNOWN = "unknown"

_MIB = 2**20
_NOTHING_FOUND, _AMBIVALENT = 2, 8


@dataclass(frozen=True)
class Probe:
    """The contents of a device."""

    #: ``empty``, ``filesystem``, ``other`` (swap, LVM, LUKS, a partition table …) or ``unknown``
    #: (data without a signature).
    kind: str
    fstype: str = ""  #: Type of the file system or of the other contents, such as ``LVM2_member`` or ``dos``.
    uuid: str = ""  #: UUID of the file system.
    label: str = ""  #: Label of the file system.

    @property
    def empty(self) -> bool:
        """Whether the device was read and is empty."""
        return self.kind == EMPTY

    def __str__(self) -> str:
        if self.kind == FILESYSTEM:
            return f"a file system of type {self.fstype}"
        return {EMPTY: "nothing", UNKNOWN: "data without a known signature"}.get(self.kind, self.fstype)


def probe(device: str, *, timeout: float = 120.0) -> Probe:
    """Return the contents of a device.

    :param device: a block device, or a file with the image of one.
    :param timeout: how long blkid may run, seconds.
    :raises UnavailableError: the device cannot be read.
    :raises DataLossError: its signatures contradict each other.
    """
    zero = _ends_are_zero(device)
    code, out, _ = commands.run(
        f"look for a file system on {device}",
        ["blkid", "-p", "-o", "export", "--", device],
        timeout=timeout,
        ok=(0, _NOTHING_FOUND, _AMBIVALENT),
    )
    if code == _AMBIVALENT:
        raise DataLossError(f"the device {device} has contradicting signatures; look with wipefs and remove the wrong one")
    found = dict(line.partition("=")[::2] for line in out.splitlines())
    if code == _NOTHING_FOUND or not ("TYPE" in found or "PTTYPE" in found):
        return Probe(EMPTY if zero else UNKNOWN)
    # blkid quotes values for the shell, such as LABEL=pg\ data.
    uuid, label = (_unquote(found.get(key, "")) for key in ("UUID", "LABEL"))
    if found.get("USAGE") == "filesystem":
        return Probe(FILESYSTEM, found["TYPE"], uuid, label)
    return Probe(OTHER, found.get("TYPE") or f"{found['PTTYPE']} partition table", uuid, label)


def _ends_are_zero(device: str) -> bool:
    try:
        with open(device, "rb") as file:
            end = file.seek(0, os.SEEK_END)
        length = min(_MIB, end)
        first = block.read(device, 0, length, direct=end % 512 == 0)
        last = block.read(device, end - length, length, direct=end % 512 == 0)
    except OSError as error:
        raise UnavailableError(f"the device {device} cannot be read ({error.strerror}), so what it holds is not known") from None
    return not any(first) and (block.is_crypt(device) or not any(last))


def _unquote(text: str) -> str:
    result, escaped = "", False
    for char in text:
        if char == "\\" and not escaped:
            escaped = True
            continue
        result, escaped = result + char, False
    return result
