"""Attaching a volume: the intent first, then the device, checked before it is linked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .. import validate
from ..errors import AlreadyExistsError
from ..model import Volume
from .attachment import Attachment
from .connectors import connection_info as connections
from .host.records import ATTACHED, ATTACHING, DETACHED, INTENT, AttachmentRecord
from .inspection import Inspection
from .localhost import LocalHost
from .resizer import Resizer
from .status import LOCKED, OK, SIZE
from .steps import Steps


class Attacher:
    """Attaches volumes to this host.

    :param host: this host.
    :param inspection: checks a volume that is attached already.
    :param resizer: lets a volume that is attached already show its new size.
    :param steps: does the work on the host.
    """

    def __init__(self, host: LocalHost, inspection: Inspection, resizer: Resizer, steps: Steps) -> None:
        self._host = host
        self._inspection = inspection
        self._resizer = resizer
        self._steps = steps

    def intend(self, owner: str, name: str, *, read_only: bool = False, passphrase: str = "") -> Attachment:
        """Record that a volume is about to be mapped to this host.

        A volume that could not be attached anyway is refused. An earlier record is kept, so the
        call may be repeated.

        :param passphrase: where the passphrase is, of a volume that is to be used encrypted.
        :raises AlreadyExistsError: another owner's volume of this name is attached, or this one
            for reading instead of writing.
        :raises FailedPreconditionError: something is in the way of the link.
        """
        validate.name(name)
        with self._host.lock(name):
            record = self._host.records.load(name)
            self._check_intent(record, owner, name, read_only, bool(passphrase))
            how: dict[str, Any] = {"read_only": read_only, "encrypted": bool(passphrase), "passphrase": passphrase}
            if record is None:
                record = self._host.records.save(AttachmentRecord(owner=owner, name=name, **how))
            elif record.state == DETACHED:
                record = self._host.records.save(record.replace(state=INTENT, **how))
            return self._host.attachment(record)

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
        """Attach a volume, check its device, link it, and record all that detaching needs.

        A volume that is attached already is checked and left as it is.  After a crash or an error
        the call resumes.

        :param volume: the volume as the controller returned it (``id``, ``owner``, ``name``,
            ``size`` in GiB).
        :param connection_id: UUID of the connection.
        :param connection_info: as Cinder's drivers return it; :func:`.connection_info.check` has
            examples.
        :param connector: properties of this host with which the mapping was asked for; see
            :meth:`.brick.Brick.connector_properties`.
        :param read_only: attach for reading only.
        :param passphrase: where the passphrase is, of a volume that is used encrypted. The volume
            is not opened or linked yet: see :meth:`.encrypted.EncryptedVolumes.open`.
        :raises DataLossError: the device is not the volume; it gets no link, and is detached
            unless in use.
        :raises UnavailableError: the storage cannot be reached, or the device cannot be read.
        :raises AlreadyExistsError: see :meth:`intend`.
        """
        if isinstance(volume, Mapping):
            volume = Volume.from_wire(volume)
        info = connections.check(connection_info)
        name = validate.name(volume.name)
        with self._host.lock(name):
            record = self._host.records.load(name)
            self._check_intent(record, volume.owner, name, read_only, bool(passphrase))
            if record is not None and record.volume_id not in ("", volume.id):
                raise AlreadyExistsError(
                    f"another volume of the name {name!r} (id {record.volume_id}) is attached here; disconnect it first",
                    details={"id": record.volume_id},
                )
            if record is None:
                record = AttachmentRecord(owner=volume.owner, name=name)
            if record.state == ATTACHED and record.passphrase != passphrase:
                record = self._host.records.save(record.replace(passphrase=passphrase))
            if record.state == ATTACHED and record.connection_id == connection_id and self._is_usable(volume):
                return self._host.attachment(self._host.records.load(name) or record)
            properties = connector if connector is not None else record.connector
            record = record.replace(
                state=ATTACHING,
                volume_id=volume.id,
                size=volume.size,
                adopted=volume.adopted,
                connection_id=connection_id,
                connector=dict(properties),
                connection_info=info,
                use_multipath=bool(properties.get("multipath", self._host.config.multipath)),
                read_only=read_only,
                encrypted=bool(passphrase),
                passphrase=passphrase,
            )
            return self._host.attachment(self._steps.attach(record))

    def _is_usable(self, volume: Volume) -> bool:
        """Check an attached volume, let its device grow, and return whether it is usable."""
        status = self._inspection.check(volume.name, size=volume.size)
        if status.refused:
            raise status.error(volume.name)
        if status.state == SIZE:
            self._resizer.resize(volume.name, volume.size)
            status = self._inspection.check(volume.name, size=volume.size)
        return status.state in (OK, LOCKED)

    def _check_intent(self, record: AttachmentRecord | None, owner: str, name: str, read_only: bool, encrypted: bool) -> None:
        if record is not None and record.owner != owner:
            link = self._host.links.path(name)
            raise AlreadyExistsError(
                f"a volume {name!r} of {record.owner} is attached here, and {link} can name only one; disconnect it first",
                details={"owner": record.owner},
            )
        if record is not None and record.state not in (INTENT, DETACHED):
            if record.read_only != read_only:
                have, want = ("reading only", "writing") if record.read_only else ("writing", "reading only")
                raise AlreadyExistsError(
                    f"the volume {name!r} is attached for {have}, not for {want}; disconnect it first", field="read_only"
                )
            if record.encrypted != encrypted:
                have, want = ("encrypted", "not encrypted") if record.encrypted else ("not encrypted", "encrypted")
                raise AlreadyExistsError(f"the volume {name!r} is attached {have}, not {want}; disconnect it first", field="encrypted")
        self._host.links.check(name)
