"""What the consumer tells of attachments: plain, typed, and without secrets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..errors import DataLossError, StorageError, UnavailableError
from .host.records import ATTACHED, AttachmentRecord

# What `Consumer.check` can say.
ABSENT = "absent"
PENDING = "pending"
OK = "ok"
GONE = "gone"
WRONG = "wrong"
LOST = "lost"
SIZE = "size"
LOCKED = "locked"


@dataclass(frozen=True, kw_only=True)
class Attachment:
    """An attachment as it may be shown: a record without its secrets."""

    owner: str  #: Owner of the volume.
    name: str  #: Name of the volume.
    state: str  #: intent, attaching, attached, detaching or detached.
    volume_id: str  #: UUID of the volume; empty before the controller answered.
    connection_id: str  #: UUID of the connection; empty as above.
    size: int  #: Size of the volume, GiB; 0 as above.
    path: str  #: Link to the device, such as ``/dev/storage/data``; empty when nothing is attached.
    device: str  #: Most stable path of the device, such as ``/dev/disk/by-id/wwn-0x6001…``; empty as above.
    protocol: str  #: How it is attached, in Cinder's words, such as ``iscsi`` or ``local``; empty as above.
    read_only: bool  #: Whether it is attached for reading only.
    encrypted: bool  #: Whether its data is encrypted; the link then leads to what is open of it.
    passphrase: str  #: Where its passphrase is; never the passphrase. Empty when it is not encrypted.
    formatting: bool  #: Whether making a file system was begun here and not finished.
    mount_points: tuple[str, ...]  #: Directories that were created here to mount it.
    wwn: str  #: World Wide Name of the device; empty when it has none.
    updated: float  #: When the record was written, seconds since the epoch.

    def to_wire(self) -> dict[str, Any]:
        """Return the fields as plain data."""
        return {**self.__dict__, "mount_points": list(self.mount_points)}

    @classmethod
    def of(cls, record: AttachmentRecord, link: str) -> Attachment:
        """Return what may be shown of a record.

        :param link: path of the volume's link.
        """
        return cls(
            owner=record.owner,
            name=record.name,
            state=record.state,
            volume_id=record.volume_id,
            connection_id=record.connection_id,
            size=record.size,
            path=link if record.state == ATTACHED else "",
            device=record.path,
            protocol=str(record.connection_info.get("driver_volume_type", "")),
            read_only=record.read_only,
            encrypted=record.encrypted,
            passphrase=record.passphrase,
            formatting=record.formatting,
            mount_points=record.mount_points,
            wwn=record.identity.wwn if record.identity is not None else "",
            updated=record.updated,
        )


@dataclass(frozen=True, kw_only=True)
class Status:
    """What a look at an attachment found."""

    #: ``absent`` (no record), ``pending`` (half attached or half detached), ``ok``, ``gone``, ``wrong``, ``lost`` (the right device, and
    #: its storage does not answer), ``size`` or ``locked`` (attached and encrypted, and not open).
    state: str
    path: str = ""  #: Link to the device.
    device: str = ""  #: Path of the device.
    size: int = 0  #: Size of the device, bytes; 0 when it is not there.
    detail: str = ""  #: What is not as it should be, in words.

    @property
    def ok(self) -> bool:
        """Whether the right device is there, with the right size and link."""
        return self.state == OK

    @property
    def refused(self) -> bool:
        """Whether nothing may be done with such a device; see :meth:`error`."""
        return self.state in (WRONG, LOST)

    def had(self, attached: Attachment) -> int:
        """Return the GiB with which a volume was used here before its device is made to show its size.

        A device that became larger by itself, as with NVMe and Ceph, counts as it was recorded: what is on it knows nothing of that yet.

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


@dataclass(frozen=True, kw_only=True)
class Detached:
    """What detaching did."""

    changed: bool  #: Whether something was attached.
    unmap: bool  #: Whether the controller has still to remove its mapping.
    connection_id: str = ""  #: UUID of the connection to remove; empty when the controller never answered.
    volume_id: str = ""  #: UUID of the volume; empty as above.
    owner: str = ""  #: Owner of the volume; empty when there was no record.
    warnings: tuple[str, ...] = ()  #: What was lost or left because of ``force``.


@dataclass(frozen=True, kw_only=True)
class Reattached:
    """What attaching again did to one volume."""

    name: str  #: Name of the volume; empty when its record is damaged.
    #: ``ok`` (was there), ``attached``, ``skipped`` (nothing to attach), ``locked`` (attached, and could not be opened) or ``failed``.
    state: str
    path: str = ""  #: Link to the device.
    error: StorageError | None = None  #: Why it failed, or is locked.
