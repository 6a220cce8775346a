"""Reading the attachments of this host: imports no os-brick, takes no lock and changes nothing."""

from __future__ import annotations

from ..errors import FailedPreconditionError, NotFoundError, StorageError
from . import leftovers, presence
from .attachment import Attachment
from .devices import block
from .devices.holders import Holder
from .encryption import Encryption
from .host.records import ATTACHED
from .leftovers import Leftover
from .localhost import LocalHost
from .status import ABSENT, GONE, LOCKED, PENDING, SIZE, WRONG, Status
from .steps import Steps


class Inspection:
    """Looks at the attachments of this host and at their devices.

    :param host: this host.
    :param encryption: knows which encrypted volumes are open.
    :param steps: finds the users of a device.
    """

    def __init__(self, host: LocalHost, encryption: Encryption, steps: Steps) -> None:
        self._host = host
        self._encryption = encryption
        self._steps = steps

    def attachments(self) -> tuple[list[Attachment], list[StorageError]]:
        """Return the attachments, sorted by name, and an error for each damaged record."""
        found, errors = self._host.records.all()
        return [self._host.attachment(record) for record in found], errors

    def attachment(self, name: str) -> Attachment | None:
        """Return an attachment; None when it has no record.

        :raises FailedPreconditionError: the record is damaged.
        """
        record = self._host.records.load(name)
        return None if record is None else self._host.attachment(record)

    def leftovers(self) -> list[Leftover]:
        """Return the things on this host that no record explains. See :func:`.leftovers.find`.

        :raises FailedPreconditionError: a record is damaged, and might explain some of them.
        """
        found, errors = self._host.records.all()
        if errors:
            raise errors[0]
        return leftovers.find(self._host.config, found)

    def device(self, name: str) -> str:
        """Return the path of an attached volume, such as ``/dev/storage/data``.

        :raises NotFoundError: it is not attached.
        :raises FailedPreconditionError: it is encrypted, and not open.
        """
        record = self._host.records.load(name)
        if record is None or record.state != ATTACHED:
            raise NotFoundError(f"the volume {name!r} is not attached to this host; use the state storage_volume.connected")
        if record.encrypted and self._encryption.mapping(record) is None:
            raise FailedPreconditionError(f"the volume {name!r} is encrypted, and not open; use the state storage_volume.connected")
        return self._host.links.path(name)

    def check(self, name: str, *, size: int | None = None) -> Status:
        """Look whether the recorded device is there and is the volume.

        :param size: size that the volume should have, GiB; default: the recorded size.
        """
        record = self._host.records.load(name)
        if record is None:
            return Status(state=ABSENT)
        if record.state != ATTACHED or record.identity is None:
            return Status(state=PENDING, detail=f"the attachment is in the state {record.state}")
        status = raw = presence.look(record, record.identity, self._host.links.path(name), self._host.tag)
        if status.ok and record.encrypted:
            status = self._encryption.status(record, raw)
        if not raw.ok or status.state == LOCKED:
            # A locked volume gets its size when it is opened.
            return status
        if raw.size != record.identity.size or raw.size < block.least(size or record.size, adopted=record.adopted):
            detail = f"the device has {raw.size} bytes, the volume {(size or record.size) * block.GIB}"
            return Status(state=SIZE, path=raw.path, device=status.device, size=raw.size, detail=detail)
        if not record.encrypted and self._host.links.target(name) != record.path:
            return Status(state=GONE, path=status.path, device=status.device, size=status.size, detail="its link is missing or wrong")
        return status

    def mountable(self, name: str) -> str:
        """Return the path to mount the volume from; empty when its device is gone, or not open."""
        record = self._host.records.load(name)
        if record is None:
            return ""
        if record.encrypted:
            return self._encryption.device(record)
        status = self.check(name)
        # A wrong device is either another volume's, or ours over a file that was replaced.
        return next(iter(presence.current(record, self._host.tag)), "") if status.state == WRONG else status.device

    def holders(self, name: str) -> list[Holder]:
        """Return the users of an attached volume; none when its device is gone."""
        record = self._host.records.load(name)
        return [] if record is None else self._steps.holders(record)
