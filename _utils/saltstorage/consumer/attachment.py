"""Attachments as the consumer returns them: plain, typed, and without secrets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..errors import StorageError
from .host.records import ATTACHED, AttachmentRecord


@dataclass(frozen=True, kw_only=True)
class Attachment:
    """An attachment that may be shown: its record without the secrets."""

    owner: str  #: Owner of the volume.
    name: str  #: Name of the volume.
    state: str  #: intent, attaching, attached, detaching or detached.
    volume_id: str  #: UUID of the volume; empty before the controller answered.
    connection_id: str  #: UUID of the connection; empty as above.
    size: int  #: Size of the volume, GiB; 0 as above.
    path: str  #: Link to the device, such as ``/dev/storage/data``; empty unless attached.
    #: Most stable path of the device, such as ``/dev/disk/by-id/wwn-0x6001…``; empty unless
    #: attached.
    device: str
    protocol: str  #: Protocol, in Cinder's words, such as ``iscsi`` or ``local``; empty as above.
    read_only: bool  #: Whether it is attached for reading only.
    encrypted: bool  #: Whether its data is encrypted; the link then leads to the open device.
    passphrase: str  #: Where its passphrase is, never the passphrase; empty unless encrypted.
    formatting: bool  #: Whether making a file system was begun here and not finished.
    mount_points: tuple[str, ...]  #: Directories that were created here to mount it.
    wwn: str  #: World Wide Name of the device; empty when it has none.
    updated: float  #: When the record was written, seconds since the epoch.

    def to_wire(self) -> dict[str, Any]:
        """Return the fields as plain data."""
        return {**self.__dict__, "mount_points": list(self.mount_points)}

    @classmethod
    def of(cls, record: AttachmentRecord, link: str) -> Attachment:
        """Return a record's fields that may be shown.

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
class Detached:
    """The result of detaching a volume."""

    changed: bool  #: Whether something was attached.
    unmap: bool  #: Whether the controller has still to remove its mapping.
    connection_id: str = ""  #: UUID of the connection to remove; empty if the controller never answered.
    volume_id: str = ""  #: UUID of the volume; empty as above.
    owner: str = ""  #: Owner of the volume; empty when there was no record.
    warnings: tuple[str, ...] = ()  #: Losses and leftovers that ``force`` accepted.


@dataclass(frozen=True, kw_only=True)
class Reattached:
    """The result of attaching one volume again after a boot."""

    name: str  #: Name of the volume; empty when its record is damaged.
    #: ``ok`` (was there), ``attached``, ``skipped`` (nothing to attach), ``locked`` (attached, and
    #: could not be opened) or ``failed``.
    state: str
    path: str = ""  #: Link to the device.
    error: StorageError | None = None  #: Why it failed, or is locked.
