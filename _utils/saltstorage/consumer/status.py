"""The status of an attachment: a comparison of its record with the device that is there now."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import DataLossError, StorageError, UnavailableError
from .attachment import Attachment

#: The host has no record of the volume.
ABSENT = "absent"
#: The volume is half attached or half detached.
PENDING = "pending"
#: The right device is there, with the right size and link.
OK = "ok"
#: The device or its link is gone.
GONE = "gone"
#: Another device is there, or ours is over a file that was replaced.
WRONG = "wrong"
#: The right device is there, and its storage does not answer.
LOST = "lost"
#: The right device is there, and its size is not the volume's.
SIZE = "size"
#: The volume is attached and encrypted, and not open.
LOCKED = "locked"


@dataclass(frozen=True, kw_only=True)
class Status:
    """The result of a look at an attachment."""

    state: str  #: ``absent``, ``pending``, ``ok``, ``gone``, ``wrong``, ``lost``, ``size`` or ``locked``.
    path: str = ""  #: Link to the device.
    device: str = ""  #: Path of the device.
    size: int = 0  #: Size of the device, bytes; 0 when it is not there.
    detail: str = ""  #: The fault, in words.

    @property
    def ok(self) -> bool:
        """Whether the right device is there, with the right size and link."""
        return self.state == OK

    @property
    def present(self) -> bool:
        """Whether the right device is there with its link; its size may be another."""
        return self.state in (OK, SIZE)

    @property
    def refused(self) -> bool:
        """Whether the device must be left alone; see :meth:`error`."""
        return self.state in (WRONG, LOST)

    def used_size(self, attached: Attachment) -> int:
        """Return the size of a volume as it was used here before its device grows, GiB.

        A device that became larger by itself, as with NVMe and Ceph, counts as it was recorded: the
        file system on it has not grown yet.

        :param attached: its attachment.
        """
        return min(-(-self.size // 2**30), attached.size)

    def error(self, name: str) -> StorageError:
        """Return the error for a device that is refused."""
        if self.state == LOST:
            return UnavailableError(
                f"the device {self.device} is the volume {name!r}, and its storage does not answer ({self.detail}). Mend the path to"
                " the storage (iscsiadm -m session -P 1 shows it), or disconnect the volume with force: true"
            )
        return DataLossError(
            f"the device {self.device} is not the volume {name!r}: {self.detail}; it is left alone. "
            "Find out why, then disconnect the volume and connect it again"
        )
