"""Attach, check and detach the volumes of this host.

How the parts are used, in this order (``flow`` does so for the states)::

    consumer = Consumer(ConsumerConfig.from_opts(__opts__))
    with consumer.lock("data"):                               # One job at a time on a volume; may be taken again.
        consumer.intend("db1", "data")                        # The record is there before the mapping is asked for.
        answer = …ask the controller, with consumer.connector_properties()…
        consumer.attach(volume, connection_id=…, connection_info=…)   # -> Attachment, .path == "/dev/storage/data"

    consumer.attachments()       # -> ([Attachment, …], [StorageError of each damaged record, …])
    consumer.attachment("data")  # -> Attachment, or None
    consumer.device("data")      # -> "/dev/storage/data", or NotFoundError
    consumer.check("data")       # -> Status: absent, pending, ok, gone, wrong, lost, size or locked
    consumer.resize("data", 2)   # -> size in bytes, as the device now shows it
    consumer.holders("data")     # -> [Holder, …]: who uses the device
    consumer.reattach()          # -> [Reattached, …]: after a boot, from the records alone

    consumer.detach("data")      # -> Detached; the record stays, in the state "detached", until
    …tell the controller to unmap…
    consumer.forget("data")      # …the controller has unmapped.

    consumer.begin_format("data")            # Before the controller is told and mkfs is run.
    consumer.end_format("data")              # When mkfs has ended and was synced.
    consumer.add_mount_point("data", "/srv") # A directory that was created to mount on; removed again by
    consumer.remove_mount_points("data")     # …this, when unmounted.

    probe.probe(device)                                   # -> Probe: empty, filesystem, other or unknown
    filesystem.make(device, "xfs", label=…, resume=…)     # Only on what `probe` finds empty
    filesystem.can_grow(device, fstype, mount_point)      # Runs no command
    filesystem.grow(device, fstype, mount_point)          # -> whether it had to grow; ext also unmounted, with None
    mounts.state(mount_point, device)                     # -> MountState: mounted, right, stacked, top

Reading (`attachments`, `attachment`, `device`, `check`, `holders`) imports no os-brick, takes no lock and changes nothing.
A host has at most one volume of a name: its own and a shared one of the same name cannot both be attached, since
``/dev/storage/<name>`` can name only one; the second is refused with ALREADY_EXISTS.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from .. import validate
from ..errors import (
    AlreadyExistsError,
    DataLossError,
    FailedPreconditionError,
    InternalError,
    NotFoundError,
    StorageError,
    UnavailableError,
)
from ..model import Volume
from ..progress import Tell
from . import leftovers, presence
from .attachment import ABSENT, GONE, LOCKED, LOST, OK, PENDING, SIZE, WRONG, Attachment, Detached, Reattached, Status
from .connectors import brick, nvme
from .devices import block, links, loop
from .devices.holders import Holder
from .encryption import Encryption
from .host import alive, records
from .host.config import ConsumerConfig
from .host.locks import VolumeLocks
from .host.records import ATTACHED, ATTACHING, DETACHED, DETACHING, INTENT, AttachmentRecord, Identity
from .leftovers import Leftover
from .passphrase import Reader
from .steps import Steps

__all__ = [
    "ABSENT",
    "GONE",
    "LOCKED",
    "LOST",
    "OK",
    "PENDING",
    "SIZE",
    "WRONG",
    "Attachment",
    "Consumer",
    "Detached",
    "Reattached",
    "Status",
]

#: Volumes that are attached again at the same time after a boot; one dead portal must not hold up the others.
_REATTACH_WORKERS = 8


def no_secrets(reference: str, name: str) -> bytes:
    """Read no passphrase, for who opens nothing."""
    raise FailedPreconditionError(f"the passphrase of volume {name!r} at {reference} cannot be read here")


class Consumer:
    """The volumes of this host.

    :param config: settings.
    :param secrets: reads passphrases of encrypted volumes; without it none can be opened.
    :param tell: takes how far a step has come that takes long; without it nobody is told.
    :param on_step: called with the name of each step before it is done; for tests.
    """

    def __init__(
        self,
        config: ConsumerConfig,
        *,
        secrets: Reader = no_secrets,
        tell: Tell | None = None,
        on_step: Callable[[str], None] | None = None,
    ) -> None:
        self.config = config
        self._tell = tell
        self.records = records.RecordStore(os.path.join(config.state_dir, "attachments"))
        self.links = links.DeviceLinks(config.device_dir)
        self._locks = VolumeLocks(os.path.join(config.state_dir, "locks"), config.lock_timeout)
        self._brick = brick.Brick(config)
        self._step = on_step or (lambda step: None)
        self._tag = loop.tag(config.state_dir)
        self._encryption = Encryption(config, self.records, self.links, secrets, self._tag, self._step)
        self._steps = Steps(self.records, self.links, self._brick, self._tag, self._encryption, self._step)

    # Reading.

    def connector_properties(self) -> dict[str, Any]:
        """Return what the controller must know of this host; read once a process. See :meth:`.brick.Brick.connector_properties`."""
        return self._brick.connector_properties()

    @contextlib.contextmanager
    def lock(self, name: str) -> Iterator[None]:
        """Hold the lock of a volume on this host; it may be taken again by the same thread.

        :raises AbortedError: another job has held it for longer than ``lock_timeout``.
        """
        with self._locks.hold(name), alive.of(name, self.config.host, self._tell, self.records.load):
            yield

    def attachments(self) -> tuple[list[Attachment], list[StorageError]]:
        """Return the attachments, sorted by name, and an error for each damaged record."""
        found, errors = self.records.all()
        return [self._shown(record) for record in found], errors

    def attachment(self, name: str) -> Attachment | None:
        """Return an attachment; None when there is no record of it.

        :raises FailedPreconditionError: the record is damaged.
        """
        record = self.records.load(name)
        return None if record is None else self._shown(record)

    def leftovers(self) -> list[Leftover]:
        """Return what is left on this host and no record explains. See :func:`.leftovers.find`.

        :raises FailedPreconditionError: a record is damaged, so that nothing can be said.
        """
        found, errors = self.records.all()
        if errors:
            raise errors[0]
        return leftovers.find(self.config, found)

    def device(self, name: str) -> str:
        """Return the path of an attached volume, such as ``/dev/storage/data``.

        :raises NotFoundError: it is not attached.
        """
        record = self.records.load(name)
        if record is None or record.state != ATTACHED:
            raise NotFoundError(f"the volume {name!r} is not attached to this host; use the state storage_volume.connected")
        if record.encrypted and self._encryption.mapping(record) is None:
            raise FailedPreconditionError(f"the volume {name!r} is encrypted, and not open; use the state storage_volume.connected")
        return self.links.path(name)

    def check(self, name: str, *, size: int | None = None) -> Status:
        """Look whether the recorded device is there and is the volume.

        :param size: size that the volume should have, GiB; without it, the recorded one.
        """
        record = self.records.load(name)
        if record is None:
            return Status(state=ABSENT)
        if record.state != ATTACHED or record.identity is None:
            return Status(state=PENDING, detail=f"the attachment is in the state {record.state}")
        status = raw = presence.look(record, record.identity, self.links.path(name), self._tag)
        if status.ok and record.encrypted:
            status = self._encryption.status(record, raw)
        if not raw.ok or status.state == LOCKED:
            # A locked one comes to its size when it is opened.
            return status
        if raw.size != record.identity.size or raw.size < block.least(size or record.size, adopted=record.adopted):
            detail = f"the device has {raw.size} bytes, the volume {(size or record.size) * block.GIB}"
            return Status(state=SIZE, path=raw.path, device=status.device, size=raw.size, detail=detail)
        if not record.encrypted and self.links.target(name) != record.path:
            return Status(state=GONE, path=status.path, device=status.device, size=status.size, detail="its link is missing or wrong")
        return status

    def mountable(self, name: str) -> str:
        """Return the path of the device that a file system of a volume is on; empty when it is not there, or not open."""
        record = self.records.load(name)
        if record is None:
            return ""
        if record.encrypted:
            return self._encryption.device(record)
        status = self.check(name)
        # A wrong device is another's, or ours over a file that was replaced.
        return next(iter(presence.current(record, self._tag)), "") if status.state == WRONG else status.device

    def holders(self, name: str) -> list[Holder]:
        """Return who uses an attached volume; nobody when its device is gone."""
        record = self.records.load(name)
        return [] if record is None else self._steps.used(record)

    # Attaching.

    def intend(self, owner: str, name: str, *, read_only: bool = False, passphrase: str = "") -> Attachment:
        """Record that a volume is about to be mapped to this host, and refuse what cannot be attached anyway.

        An earlier record is kept, so the call may be repeated.

        :param passphrase: where the passphrase is, of a volume that is to be used encrypted.
        :raises AlreadyExistsError: another owner's volume of this name is attached, or this one for reading instead of writing.
        :raises FailedPreconditionError: something is in the way of the link.
        """
        validate.name(name)
        with self.lock(name):
            record = self.records.load(name)
            self._check_intent(record, owner, name, read_only, bool(passphrase))
            how: dict[str, Any] = {"read_only": read_only, "encrypted": bool(passphrase), "passphrase": passphrase}
            if record is None:
                record = self.records.save(AttachmentRecord(owner=owner, name=name, **how))
            elif record.state == DETACHED:
                record = self.records.save(record.replace(state=INTENT, **how))
            return self._shown(record)

    def attach(
        self,
        volume: Volume | Mapping[str, Any],
        *,
        connection_id: str,
        connection_info: Mapping[str, Any],
        connector: Mapping[str, Any] | None = None,
        read_only: bool = False,
        passphrase: str = "",
    ) -> Attachment:
        """Attach a volume, check that the device is it, link it, and record all that is needed to detach it.

        When it is attached already, this checks it and returns.  After a crash or an error it resumes.

        :param volume: the volume as the controller returned it (``id``, ``owner``, ``name``, ``size`` in GiB).
        :param connection_id: UUID of the connection.
        :param connection_info: as Cinder's drivers return it: ``{"driver_volume_type": "iscsi", "data": {…}}``.
        :param connector: what :meth:`connector_properties` returned when the mapping was asked for.
        :param read_only: attach for reading only.
        :param passphrase: where the passphrase is, of a volume that is used encrypted. It is not opened or linked yet: see :meth:`open`.
        :raises DataLossError: the device is not the volume; it is not linked, and let go of when nobody uses it.
        :raises UnavailableError: the storage cannot be reached, or the device cannot be read.
        :raises AlreadyExistsError: see :meth:`intend`.
        """
        if isinstance(volume, Mapping):
            volume = Volume.from_wire(volume)
        info = brick.check_connection_info(connection_info)
        name = validate.name(volume.name)
        with self.lock(name):
            record = self.records.load(name)
            self._check_intent(record, volume.owner, name, read_only, bool(passphrase))
            if record is not None and record.volume_id not in ("", volume.id):
                raise AlreadyExistsError(
                    f"another volume of the name {name!r} (id {record.volume_id}) is attached here; disconnect it first",
                    details={"id": record.volume_id},
                )
            if record is None:
                record = AttachmentRecord(owner=volume.owner, name=name)
            properties = connector if connector is not None else record.connector
            if record.state == ATTACHED and record.passphrase != passphrase:
                record = self.records.save(record.replace(passphrase=passphrase))
            if record.state == ATTACHED and record.connection_id == connection_id:
                status = self.check(name, size=volume.size)
                if status.refused:
                    raise status.error(name)
                if status.state == SIZE:
                    self.resize(name, volume.size)
                    status = self.check(name, size=volume.size)
                if status.state in (OK, LOCKED):
                    return self._shown(self.records.load(name) or record)
            record = record.replace(
                state=ATTACHING,
                volume_id=volume.id,
                size=volume.size,
                adopted=volume.adopted,
                connection_id=connection_id,
                connector=dict(properties),
                connection_info=info,
                use_multipath=bool(properties.get("multipath", self.config.multipath)),
                read_only=read_only,
                encrypted=bool(passphrase),
                passphrase=passphrase,
            )
            return self._shown(self._steps.attach(record))

    def reattach(self) -> list[Reattached]:
        """Attach every recorded volume whose device is gone, such as after a boot; no controller is needed.

        An error stops only its own volume.
        """
        found, errors = self.records.all()
        result = [Reattached(name="", state="failed", error=error) for error in errors]
        with concurrent.futures.ThreadPoolExecutor(max_workers=_REATTACH_WORKERS) as pool:
            return result + list(pool.map(self._reattach, [record.name for record in found]))

    def check_resize(self, name: str, passphrase: str = "") -> None:
        """Look whether :meth:`resize` could do its work, before the volume of a device that is there grows.

        :param passphrase: where the passphrase is going to be, of one that is encrypted; default: where it is now.
        :raises NotFoundError: it is not attached.
        :raises FailedPreconditionError: a program is missing, or the passphrase of one that is encrypted.
        """
        record = self._attached(name)[0]
        self._brick.check_extend(record.connection_info)
        if record.encrypted:
            self.passphrase(name, passphrase or record.passphrase)

    def resize(self, name: str, size: int) -> int:
        """Let an attached volume show its present size and return it in bytes.

        :param size: size that the volume has by now, GiB. A disk that does not show it yet is asked for a minute.
        :raises NotFoundError: it is not attached.
        :raises UnavailableError: the device still shows less than ``size``.
        :raises DataLossError: the device is not the volume, or is smaller than it was.
        """
        with self.lock(name):
            record, identity, device = self._attached(name)
            least = block.least(size, adopted=record.adopted)
            self._step("resize")
            if loop.status(device) is not None:
                # NFS asks the server for the present size when a file is opened.
                with contextlib.suppress(OSError), open(record.file, "rb"):
                    pass
                loop.refresh_size(device)
            else:
                self._steps.extend(record, device, least)
            found = block.size(device)
            if found < identity.size:
                raise DataLossError(f"the device {device} of the volume {name!r} shrank from {identity.size} to {found} bytes")
            if found != identity.size:
                self.records.save(
                    record.replace(identity=dataclasses.replace(identity, size=found), size=max(record.size, found // block.GIB))
                )
            self._encryption.grow(record, device)
            if found < least:
                raise UnavailableError(
                    f"the device {device} of the volume {name!r} still shows {found / block.GIB:g} GiB and not {size} GiB; "
                    "check the paths to the storage"
                )
            return found

    # Encryption.

    def passphrase(self, name: str, reference: str) -> None:
        """Check that a volume can be opened here, before anything is done: its passphrase is there, and cryptsetup is installed.

        :raises FailedPreconditionError: what is missing.
        """
        self._encryption.passphrase(AttachmentRecord(owner="", name=name, passphrase=reference))

    def needs_encryption(self, name: str) -> bool:
        """Return whether an attached volume that is to be used encrypted is empty as yet."""
        record, _, device = self._attached(name)
        return self._encryption.needs_making(record, device)

    def encrypt(self, name: str, *, resume: bool) -> None:
        """Encrypt an attached volume that is empty; between :meth:`begin_encryption` and :meth:`open`.

        :param resume: what an interrupted call left may be overwritten.
        :raises AlreadyExistsError: it is not empty.
        """
        with self.lock(name):
            record, _, device = self._attached(name)
            self._encryption.make(record, device, resume=resume)

    def open(self, name: str) -> Attachment:
        """Open an attached volume that is encrypted, and link it; one that is open is left so.

        :raises AlreadyExistsError: it holds data that is not encrypted.
        :raises FailedPreconditionError: the passphrase is missing or wrong.
        """
        with self.lock(name):
            record, _, device = self._attached(name)
            return self._shown(self._encryption.open(record, device))

    # Detaching.

    def detach(self, name: str, owner: str | None = None, *, force: bool = False) -> Detached:
        """Detach a volume when nobody uses it; its record stays until :meth:`forget`.

        :param owner: refuse when the volume of this name has another owner.
        :param force: go on when cached data cannot be written, and lose it.  A device in use is never detached.
        :raises FailedPreconditionError: the device is in use; all holders are named.
        :raises DataLossError: cached data could not be written; the volume stays attached.
        """
        with self.lock(name):
            record = self.records.load(name)
            if record is None:
                self._check_leftover(name)
                return Detached(changed=False, unmap=False)
            if owner is not None and record.owner != owner:
                raise AlreadyExistsError(f"the volume {name!r} that is attached here belongs to {record.owner}, not to {owner}")
            if record.state in (INTENT, DETACHED):
                # A connect that failed after the records were lost leaves an intent, and says nothing of what is attached.
                self._check_leftover(name)
                changed, warnings = False, []
                self.records.save(record.replace(state=DETACHED))
            else:
                changed = True
                warnings = self._steps.detach(record, force)
            return Detached(
                changed=changed,
                unmap=True,
                connection_id=record.connection_id,
                volume_id=record.volume_id,
                owner=record.owner,
                warnings=tuple(warnings),
            )

    def discard(self, name: str) -> Detached:
        """Remove what is left of a volume that was taken from this host while it was fenced, and write nothing to it any more.

        File systems on it are unmounted even when they are in use, and what was not written yet is lost: another host may have the
        volume by now.  The record stays until :meth:`forget`.

        :raises StorageError: something could not be removed.
        """
        with self.lock(name):
            record = self.records.load(name)
            if record is None:
                return Detached(changed=False, unmap=True)
            found = presence.current(record, loop.tag(self.config.state_dir))
            self._steps.discard(record)
            return Detached(
                changed=bool(found), unmap=True, connection_id=record.connection_id, volume_id=record.volume_id, owner=record.owner
            )

    def forget(self, name: str) -> None:
        """Remove the record of a volume that is not attached, after the controller has removed its mapping; none is fine.

        :raises FailedPreconditionError: something is, or may be, attached.
        """
        with self.lock(name):
            record = self.records.load(name)
            if record is not None and record.state not in (INTENT, DETACHED):
                raise FailedPreconditionError(f"the volume {name!r} may still be attached (state {record.state}); disconnect it first")
            if record is not None and nvme.is_nvme(record.connection_info):
                self._step("clean up")
                self._brick.clean_up(record.connection_info)
            self._step("forget")
            self.records.remove(name)

    # What the states remember with an attachment.

    def begin_format(self, name: str) -> bool:
        """Record that a file system is about to be made, and return whether it was begun before and not finished.

        Only then may what is on the device be overwritten (``resume`` of :func:`.filesystems.filesystem.make`).
        """
        return self._set_mark(name, "formatting", True)

    def end_format(self, name: str) -> None:
        """Record that the file system was made and synced, or that none was begun."""
        self._set_mark(name, "formatting", False)

    def begin_encryption(self, name: str) -> bool:
        """Record that a volume is about to be encrypted, and return whether that was begun before and not finished."""
        return self._set_mark(name, "encrypting", True)

    def end_encryption(self, name: str) -> None:
        """Record that encrypting was not begun; when it was done, :meth:`open` records that."""
        self._set_mark(name, "encrypting", False)

    def add_mount_point(self, name: str, path: str) -> bool:
        """Create a directory to mount on, remember that it was, and return whether it was created.

        A directory that exists is not remembered, and so never removed.

        :raises FailedPreconditionError: something else is in the way, or the directory cannot be created.
        """
        with self.lock(name):
            record, _, _ = self._attached(name)
            if os.path.isdir(path):
                return False
            there = path
            while not os.path.lexists(there):
                there = os.path.dirname(there)
            if not os.path.isdir(there):
                raise FailedPreconditionError(f"{there} is no directory, and is in the way of the mount point {path}", field="mount")
            self.records.save(record.replace(mount_points=tuple(dict.fromkeys((*record.mount_points, path)))))
            try:
                os.makedirs(path, mode=0o755)
            except OSError as error:
                self.records.save(record)
                raise FailedPreconditionError(f"the mount point {path} cannot be created: {error.strerror}", field="mount") from None
            return True

    def remove_mount_points(self, name: str) -> list[str]:
        """Remove the directories that were created to mount on, and return them; one that is not empty stays."""
        with self.lock(name):
            record = self.records.load(name)
            if record is None or not record.mount_points:
                return []
            removed = []
            for path in record.mount_points:
                with contextlib.suppress(OSError):
                    os.rmdir(path)
                    removed.append(path)
            self.records.save(record.replace(mount_points=()))
            return removed

    # Within.

    def _reattach(self, name: str) -> Reattached:
        try:
            with self.lock(name):
                record = self.records.load(name)
                if record is None or record.state in (INTENT, DETACHED):
                    return Reattached(name=name, state="skipped")
                if record.state == DETACHING:
                    self._steps.detach(record, force=False)
                    return Reattached(name=name, state="skipped")
                status = self.check(name)
                if status.refused:
                    raise status.error(name)
                state = "ok" if status.state in (OK, SIZE, LOCKED) else "attached"
                if state == "attached":
                    self._steps.attach(record.replace(state=ATTACHING))
                return self._opened(name, state)
        except StorageError as error:
            return Reattached(name=name, state="failed", error=error)
        except OSError as error:
            return Reattached(name=name, state="failed", error=InternalError(f"cannot attach {name!r}: {error}"))

    def _opened(self, name: str, state: str) -> Reattached:
        """Open what is encrypted, as far as its passphrase can be read here without a master."""
        record, _, device = self._attached(name)
        if record.encrypted and (record.encrypting or not self._encryption.is_open(record, device)):
            try:
                self._encryption.open(record, device)
            except StorageError as error:
                return Reattached(name=name, state="locked", error=error)
            state = "attached"
        return Reattached(name=name, state=state, path=self.links.path(name))

    def _set_mark(self, name: str, mark: str, value: bool) -> bool:
        with self.lock(name):
            record, _, _ = self._attached(name)
            was = bool(getattr(record, mark))
            if was != value:
                self.records.save(record.replace(**{mark: value}))
            return was

    def _attached(self, name: str) -> tuple[AttachmentRecord, Identity, str]:
        """Return the record of an attached volume, its identity and its device, after a look whether it is the right one."""
        record = self.records.load(name)
        if record is None or record.state != ATTACHED or record.identity is None:
            raise NotFoundError(f"the volume {name!r} is not attached to this host; use the state storage_volume.connected")
        status = presence.look(record, record.identity, self.links.path(name), self._tag)
        if status.refused:
            raise status.error(name)
        if not status.ok:
            raise NotFoundError(f"{status.detail}; use the state storage_volume.connected")
        return record, record.identity, status.device

    def _check_intent(self, record: AttachmentRecord | None, owner: str, name: str, read_only: bool, encrypted: bool) -> None:
        if record is None:
            self.links.check(name)
            return
        if record.owner != owner:
            raise AlreadyExistsError(
                f"a volume {name!r} of {record.owner} is attached here, and {self.links.path(name)} can name only one; disconnect it first",
                details={"owner": record.owner},
            )
        if record.read_only != read_only and record.state not in (INTENT, DETACHED):
            have, want = ("reading only", "writing") if record.read_only else ("writing", "reading only")
            raise AlreadyExistsError(f"the volume {name!r} is attached for {have}, not for {want}; disconnect it first", field="read_only")
        if record.encrypted != encrypted and record.state not in (INTENT, DETACHED):
            have, want = ("encrypted", "not encrypted") if record.encrypted else ("not encrypted", "encrypted")
            raise AlreadyExistsError(f"the volume {name!r} is attached {have}, not {want}; disconnect it first", field="encrypted")
        self.links.check(name)

    def _check_leftover(self, name: str) -> None:
        """Refuse to call a volume detached when its link still leads to a device that no record explains."""
        path = self.links.path(name)
        if self.links.target(name) is None:
            return
        if block.is_block(path):
            raise FailedPreconditionError(
                f"{path} leads to a device, and no attachment record explains it; detach it by hand and remove the link"
            )
        self.links.remove(name)

    def _shown(self, record: AttachmentRecord) -> Attachment:
        return Attachment.of(record, self.links.path(record.name))
