"""Detaching a volume, and forgetting it once the controller has removed its mapping."""

from __future__ import annotations

from ..errors import AlreadyExistsError, FailedPreconditionError
from . import presence
from .attachment import Detached
from .connectors import nvme
from .devices import block
from .host.records import DETACHED, INTENT, AttachmentRecord
from .localhost import LocalHost
from .steps import Steps


class Detacher:
    """Detaches volumes from this host.

    :param host: this host.
    :param steps: does the work on the host.
    """

    def __init__(self, host: LocalHost, steps: Steps) -> None:
        self._host = host
        self._steps = steps

    def detach(self, name: str, owner: str | None = None, *, force: bool = False) -> Detached:
        """Detach a volume that is not in use; its record stays until :meth:`forget`.

        :param owner: refuse when the volume of this name has another owner.
        :param force: lose cached data that cannot be written.  A device in use is never detached.
        :raises FailedPreconditionError: the device is in use; all holders are named.
        :raises DataLossError: cached data could not be written; the volume stays attached.
        """
        with self._host.lock(name):
            record = self._host.records.load(name)
            if record is None:
                self._check_leftover(name)
                return Detached(changed=False, unmap=False)
            if owner is not None and record.owner != owner:
                raise AlreadyExistsError(f"the volume {name!r} that is attached here belongs to {record.owner}, not to {owner}")
            if record.state not in (INTENT, DETACHED):
                return _result(record, changed=True, warnings=self._steps.detach(record, force))
            # A connect that failed after the records were lost leaves an intent, which does not
            # mention the attached device.
            self._check_leftover(name)
            self._host.records.save(record.replace(state=DETACHED))
            return _result(record, changed=False)

    def discard(self, name: str) -> Detached:
        """Remove the stale device of a fenced volume, and write nothing to it any more.

        File systems on it are unmounted even when they are in use, and unwritten data is lost:
        another host may have the volume by now.  The record stays until :meth:`forget`.

        :raises StorageError: something could not be removed.
        """
        with self._host.lock(name):
            record = self._host.records.load(name)
            if record is None:
                return Detached(changed=False, unmap=True)
            found = presence.current(record, self._host.tag)
            self._steps.discard(record)
            return _result(record, changed=bool(found))

    def forget(self, name: str) -> None:
        """Remove the record of a detached volume; no record is fine.

        The controller has removed the volume's mapping before.

        :raises FailedPreconditionError: something is, or may be, attached.
        """
        with self._host.lock(name):
            record = self._host.records.load(name)
            if record is not None and record.state not in (INTENT, DETACHED):
                raise FailedPreconditionError(f"the volume {name!r} may still be attached (state {record.state}); disconnect it first")
            if record is not None and nvme.is_nvme(record.connection_info):
                self._host.step("clean up")
                self._host.brick.clean_up(record.connection_info)
            self._host.step("forget")
            self._host.records.remove(name)

    def _check_leftover(self, name: str) -> None:
        """Refuse to call a volume detached while its link leads to an unexplained device."""
        path = self._host.links.path(name)
        if self._host.links.target(name) is None:
            return
        if block.is_block(path):
            raise FailedPreconditionError(
                f"{path} leads to a device, and no attachment record explains it; detach it by hand and remove the link"
            )
        self._host.links.remove(name)


def _result(record: AttachmentRecord, *, changed: bool, warnings: list[str] | None = None) -> Detached:
    return Detached(
        changed=changed,
        unmap=True,
        connection_id=record.connection_id,
        volume_id=record.volume_id,
        owner=record.owner,
        warnings=tuple(warnings or ()),
    )
