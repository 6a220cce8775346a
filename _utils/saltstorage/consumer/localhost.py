"""This host: the records, links, locks and os-brick that all parts of the consumer share."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator

from ..errors import NotFoundError
from ..progress import Tell
from . import presence
from .attachment import Attachment
from .connectors.brick import Brick
from .connectors.remote import Remote
from .devices import loop
from .devices.links import DeviceLinks
from .host import heartbeat
from .host.config import ConsumerConfig
from .host.locks import VolumeLocks
from .host.records import ATTACHED, AttachmentRecord, Identity, RecordStore


class LocalHost:
    """This host, as one consumer uses it.

    :param config: settings.
    :param tell: takes reports on long steps; with None there are no reports.
    :param on_step: called with the name of each step before it is done; for tests.

    :ivar tag: marks the loop devices and the open devices of this consumer.
    """

    def __init__(self, config: ConsumerConfig, *, tell: Tell | None, on_step: Callable[[str], None] | None) -> None:
        self.config = config
        self.records = RecordStore(os.path.join(config.state_dir, "attachments"))
        self.links = DeviceLinks(config.device_dir)
        self.brick: Brick | Remote = Brick(config) if config.in_process else Remote(config)
        self.tag = loop.tag(config.state_dir)
        self.step = on_step or (lambda step: None)
        self._tell = tell
        self._locks = VolumeLocks(os.path.join(config.state_dir, "locks"), config.lock_timeout)

    @contextlib.contextmanager
    def lock(self, name: str) -> Iterator[None]:
        """Hold the lock of a volume on this host; the same thread may take it again.

        :raises AbortedError: another job has held it for longer than ``lock_timeout``.
        """
        with self._locks.hold(name), heartbeat.of_volume(name, self.config.host, self._tell, self._owner_and_id):
            yield

    def load_attached(self, name: str) -> tuple[AttachmentRecord, Identity, str]:
        """Return the record, identity and device of an attached volume.

        The device has proved to be the right one.

        :raises NotFoundError: the volume is not attached, or its device is gone.
        :raises DataLossError: another device is there.
        :raises UnavailableError: its storage does not answer.
        """
        record = self.records.load(name)
        if record is None or record.state != ATTACHED or record.identity is None:
            raise NotFoundError(f"the volume {name!r} is not attached to this host; use the state storage_volume.connected")
        status = presence.look(record, record.identity, self.links.path(name), self.tag)
        if status.refused:
            raise status.error(name)
        if not status.ok:
            raise NotFoundError(f"{status.detail}; use the state storage_volume.connected")
        return record, record.identity, status.device

    def attachment(self, record: AttachmentRecord) -> Attachment:
        """Return a record as an attachment, without its secrets."""
        return Attachment.of(record, self.links.path(record.name))

    def _owner_and_id(self, name: str) -> tuple[str, str] | None:
        record = self.records.load(name)
        return None if record is None else (record.owner, record.volume_id)
