"""Attachment records.

A record has all that a host needs to attach a volume again, or to detach it, without a controller.
Each volume has one file, mode 0600 (it holds CHAP secrets), which is replaced atomically and
synced.  A file is found by its volume's name alone; so a host has at most one volume of a name, as
``/dev/storage`` is flat.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ...errors import FailedPreconditionError, StorageError

#: Before the controller is asked for a mapping; nothing is attached.
INTENT = "intent"
#: os-brick may have attached something.
ATTACHING = "attaching"
#: Attached, checked and linked.
ATTACHED = "attached"
#: Something may still be attached.
DETACHING = "detaching"
#: Nothing is attached; the controller has still to remove its mapping.
DETACHED = "detached"

STATES = (INTENT, ATTACHING, ATTACHED, DETACHING, DETACHED)


@dataclass(frozen=True, kw_only=True)
class Identity:
    """The properties that tell a device from others, under any name that the kernel gives it."""

    size: int  #: Bytes.
    #: World Wide Name or NGUID, as the kernel shows it; empty when the device has none.
    wwn: str = ""
    serial: str = ""  #: Serial number of the unit; empty when the device has none.
    dm_uuid: str = ""  #: UUID of a device mapper device, such as ``mpath-3600…``.
    backing_file: str = ""  #: File behind a loop device.
    backing_inode: int = 0  #: Inode of that file.
    image: str = ""  #: Image of a Ceph RBD device: pool, name and id.
    #: Number that is unique to the device in this boot; 0 before Linux 5.15, and for loop devices.
    diskseq: int = 0

    @property
    def named(self) -> bool:
        """Whether any property tells the device from others in another boot; its size does not."""
        return bool(self.wwn or self.serial or self.dm_uuid or self.backing_file or self.image)


@dataclass(frozen=True, kw_only=True)
class AttachmentRecord:
    """All that a host knows of one attachment.

    It holds secrets: show an :class:`~.attachment.Attachment` instead.
    """

    owner: str  #: Owner of the volume.
    name: str  #: Name of the volume.
    state: str = INTENT  #: One of :data:`STATES`.
    volume_id: str = ""  #: UUID of the volume; empty before the controller answered.
    size: int = 0  #: Size of the volume, GiB.
    adopted: bool = False  #: Whether others made it, so that its recorded size may be rounded up.
    connection_id: str = ""  #: UUID of the connection.
    #: Properties of this host, as os-brick returned them.
    connector: Mapping[str, Any] = field(default_factory=dict, repr=False)
    #: Connection information, in Cinder's format; secret.
    connection_info: Mapping[str, Any] = field(default_factory=dict, repr=False)
    #: os-brick's answer when it attached; os-brick needs it to detach.
    device_info: Mapping[str, Any] = field(default_factory=dict, repr=False)
    #: File that os-brick returned instead of a device; the device is then a loop device over it.
    file: str = ""
    #: Whether it was attached with multipath; detaching must use the same.
    use_multipath: bool = False
    read_only: bool = False  #: Whether it is attached for reading only.
    identity: Identity | None = None  #: Identity at the first attach; every later one must match.
    path: str = ""  #: Most stable path of the device, such as ``/dev/disk/by-id/wwn-…``.
    #: The kernel's own path of the device, such as ``/dev/sdc``; valid in this boot only.
    device: str = ""
    boot_id: str = ""  #: Boot in which ``device`` was written.
    encrypted: bool = False  #: Whether it is used encrypted.
    passphrase: str = ""  #: Where the passphrase is, such as ``sdb://vault/data``; never the passphrase.
    encrypting: bool = False  #: Whether encrypting it was begun and not finished.
    header: int = 0  #: Bytes by which the open device is smaller than the one below it.
    formatting: bool = False  #: Whether making a file system was begun and not finished.
    #: Directories that were created to mount it; they are removed again when it is unmounted.
    mount_points: tuple[str, ...] = ()
    updated: float = 0.0  #: When the record was written, seconds since the epoch.

    def replace(self, **changes: Any) -> AttachmentRecord:
        """Return a copy with the given fields changed."""
        return dataclasses.replace(self, **changes)


def file_name(volume: str) -> str:
    """Return the name of a volume's record file: a digest, and the readable part of the name.

    >>> file_name("pg data")
    '1d73c4af1a978aad-pg_data.json'
    """
    digest = hashlib.sha256(volume.encode()).hexdigest()[:16]
    return f"{digest}-{re.sub(r'[^A-Za-z0-9_-]', '_', volume)[:48]}.json"


class RecordStore:
    """The attachment records of one minion.

    :param directory: created with mode 0700 when the first record is written.
    """

    def __init__(self, directory: str) -> None:
        self.directory = directory

    def path(self, name: str) -> str:
        """Return the path of the record file of a volume."""
        return os.path.join(self.directory, file_name(name))

    def load(self, name: str) -> AttachmentRecord | None:
        """Return the record of a volume; None when there is none.

        :raises FailedPreconditionError: the file is damaged; the message names it.
        """
        record = _read(self.path(name))
        if record is not None and record.name != name:
            raise _damage_error(self.path(name), f"it is of the volume {record.name!r}, not {name!r}")
        return record

    def save(self, record: AttachmentRecord, *, durable: bool = True) -> AttachmentRecord:
        """Write a record, so that a crash leaves the former record or this one, and return it.

        :param durable: whether it must also outlast a power failure.  After a power failure
            nothing is attached, so in the middle of an operation the former record is as good.
        """
        os.makedirs(self.directory, mode=0o700, exist_ok=True)
        record = record.replace(updated=round(time.time(), 3))
        path = self.path(record.name)
        data = json.dumps(dataclasses.asdict(record), indent=1, sort_keys=True).encode() + b"\n"
        temporary = f"{path}.new"  # Not *.json, so never read; the volume's lock keeps writers apart.
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            os.fchmod(fd, 0o600)
            with os.fdopen(fd, "wb", closefd=False) as file:
                file.write(data)
            os.fsync(fd)
        finally:
            os.close(fd)
        os.rename(temporary, path)
        if durable:
            self._sync()
        return record

    def remove(self, name: str) -> None:
        """Remove the record of a volume; a missing record is fine."""
        found = False
        # The record goes last: without it, nobody would look for the other file.
        for path in (f"{self.path(name)}.new", self.path(name)):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
                found = True
        if found:
            self._sync()

    def all(self) -> tuple[list[AttachmentRecord], list[StorageError]]:
        """Return all records, sorted by name, and an error for each damaged file."""
        records: list[AttachmentRecord] = []
        errors: list[StorageError] = []
        try:
            names = sorted(os.listdir(self.directory))
        except FileNotFoundError:
            return records, errors
        for name in names:
            if name.endswith(".json"):
                try:
                    record = _read(os.path.join(self.directory, name))
                except StorageError as error:
                    errors.append(error)
                else:
                    if record is not None:  # None: it was removed after the listing.
                        records.append(record)
        return sorted(records, key=lambda record: record.name), errors

    def _sync(self) -> None:
        fd = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def _read(path: str) -> AttachmentRecord | None:
    try:
        with open(path, "rb") as file:
            data = json.loads(file.read())
        identity = data.get("identity")
        known = {f.name for f in dataclasses.fields(AttachmentRecord)}
        values = {key: value for key, value in data.items() if key in known}
        values["identity"] = None if identity is None else Identity(**identity)
        values["mount_points"] = tuple(data.get("mount_points", ()))
        record = AttachmentRecord(**values)
        if record.state not in STATES or not isinstance(record.name, str) or not isinstance(record.connection_info, dict):
            raise ValueError("a field has a wrong value")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _damage_error(path, error.strerror or "cannot be read") from None
    except (ValueError, TypeError, AttributeError) as error:
        # The text of such an error may quote the contents, which are secret: only its type is
        # named.
        raise _damage_error(path, type(error).__name__) from None
    return record


def _damage_error(path: str, why: str) -> FailedPreconditionError:
    return FailedPreconditionError(
        f"the attachment record {path} is damaged ({why}); restore it from a backup, or remove it once the volume is not attached here",
        details={"file": path},
    )
