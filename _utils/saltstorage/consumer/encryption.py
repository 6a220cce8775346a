"""An encrypted volume on this host: between its device and ``/dev/storage/<name>`` stands a mapping that is open or not.

The record of the attachment says that the volume is encrypted and where its passphrase is; what is open is looked up each time.
The caller holds the volume's lock.
"""

from __future__ import annotations

import dataclasses
import errno
import mmap
import os
from collections.abc import Callable
from functools import partial

from ..errors import AlreadyExistsError, FailedPreconditionError, UnavailableError
from .attachment import GONE, LOCKED, OK, SIZE, Status
from .devices import block, luks
from .devices.holders import TRIES, Holder, describe, lasting
from .devices.holders import find as find_holders
from .devices.links import DeviceLinks
from .devices.probe import EMPTY, FILESYSTEM, OTHER, UNKNOWN, probe
from .host.config import ConsumerConfig
from .host.records import AttachmentRecord, RecordStore
from .passphrase import Reader

_ZEROED = 2**20


class Encryption:
    """What is done on this host for encrypted volumes.

    :param secrets: reads the passphrase of a volume: ``secrets(reference, name)``.
    :param tag: tag of this consumer.
    :param step: called with the name of each step before it is done.
    """

    def __init__(
        self,
        config: ConsumerConfig,
        store: RecordStore,
        device_links: DeviceLinks,
        secrets: Reader,
        tag: str,
        step: Callable[[str], None],
    ) -> None:
        self.config = config
        self.records = store
        self.links = device_links
        self._secrets = secrets
        self._tag = tag
        self._step = step

    # Reading.

    def name(self, record: AttachmentRecord) -> str:
        """Return the name of a volume's mapping, which is the same at each opening."""
        return luks.name(record.volume_id, self._tag)

    def mapping(self, record: AttachmentRecord) -> luks.Mapping | None:
        """Return what is open under the name of the volume; it may still be over a device that has gone."""
        return luks.find(self.name(record)) if record.encrypted else None

    def device(self, record: AttachmentRecord) -> str:
        """Return the path of what is open of a volume; empty when nothing is."""
        mapping = self.mapping(record)
        return mapping.path if mapping is not None else ""

    def is_open(self, record: AttachmentRecord, device: str) -> bool:
        """Return whether a volume is open, over this device, and linked."""
        mapping = self.mapping(record)
        return mapping is not None and mapping.is_over(device) and self.links.target(record.name) == mapping.path

    def status(self, record: AttachmentRecord, raw: Status) -> Status:
        """Return the status of a volume whose device was found to be right.

        :param raw: of that device.
        """
        mapping = self.mapping(record)
        if mapping is None or not mapping.is_over(raw.device):
            return Status(state=LOCKED, path=raw.path, size=raw.size, detail="it is encrypted, and not open")
        shown = block.size(mapping.path) + record.header
        status = Status(state=OK, path=raw.path, device=mapping.path, size=shown)
        if shown != raw.size:
            detail = f"the open device and its header have {shown} bytes, the volume {raw.size}"
            return dataclasses.replace(status, state=SIZE, detail=detail)
        if self.links.target(record.name) != mapping.path:
            return dataclasses.replace(status, state=GONE, detail="its link is missing or wrong")
        return status

    def passphrase(self, record: AttachmentRecord) -> bytes:
        """Return the passphrase of a volume, read now.

        :raises FailedPreconditionError: there is none where the record says.
        """
        luks.require()
        return self._secrets(record.passphrase, record.name)

    # Opening.

    def open(self, record: AttachmentRecord, device: str) -> AttachmentRecord:
        """Open a volume that holds encrypted data, link it, and return the record as it is then.

        :param device: its device, which was found to be right.
        :raises AlreadyExistsError: it holds something else.
        :raises FailedPreconditionError: it holds nothing, or the passphrase is wrong.
        """
        mapping = self._own_mapping(record, device)
        if mapping is None:
            found = probe(device, timeout=self.config.step_timeout)
            if found.kind == EMPTY:
                raise FailedPreconditionError(f"volume {record.name!r} is empty, and not encrypted yet; apply storage_volume.connected")
            if found.kind != OTHER or found.fstype != luks.TYPE:
                raise AlreadyExistsError(
                    f"volume {record.name!r} holds {found}, which is not encrypted, and is left as it is; disconnect it, and connect it"
                    " without encrypted",
                    field="encrypted",
                )
            passphrase = self.passphrase(record)
            self._step("open")
            luks.open_(device, self.name(record), passphrase, read_only=record.read_only, timeout=self.config.step_timeout)
            mapping = self._own_mapping(record, device)
            if mapping is None:
                raise UnavailableError(f"cryptsetup ended well, and {device} is not open; look at the kernel's log")
        record = record.replace(header=block.size(device) - block.size(mapping.path))
        if record.encrypting:
            # Nothing was ever linked here, so nobody can have written to it but whoever opened it by hand.
            self._finish(mapping.path)
            record = record.replace(encrypting=False)
        # Before anybody is led to it: what is written from then on must never be taken for what is left of a making.
        self._step("record opened")
        record = self.records.save(record)
        self._step("link")
        self.links.make(record.name, mapping.path)
        return record

    def make(self, record: AttachmentRecord, device: str, *, resume: bool) -> None:
        """Encrypt an empty volume.  Its record and the controller say already that this is being done.

        :param resume: what an interrupted making left may be overwritten.
        :raises AlreadyExistsError: the device is not empty.
        """
        found = probe(device, timeout=self.config.step_timeout)
        cut_off = resume and (found.kind == UNKNOWN or self._unfinished(device))
        if found.kind != EMPTY and not cut_off:
            raise AlreadyExistsError(f"volume {record.name!r} holds {found}, and is not encrypted; empty it by hand if it is not needed")
        passphrase = self.passphrase(record)
        self._step("encrypt")
        luks.make(device, passphrase, self.config.luks_format_options, timeout=self.config.format_timeout)

    def needs_making(self, record: AttachmentRecord, device: str) -> bool:
        """Return whether a volume is not encrypted yet, or only half."""
        found = probe(device, timeout=self.config.step_timeout)
        if found.kind == OTHER and found.fstype == luks.TYPE:
            return record.encrypting and self._unfinished(device)
        return found.kind == EMPTY or (record.encrypting and found.kind == UNKNOWN)

    def grow(self, record: AttachmentRecord, device: str) -> None:
        """Let an open volume become as large as its device."""
        mapping = self.mapping(record)
        if mapping is not None and mapping.is_over(device) and block.size(mapping.path) + record.header != block.size(device):
            self._step("grow the mapping")
            luks.resize(self.name(record), device, self.passphrase(record), timeout=self.config.step_timeout)

    # Closing.

    def close(self, record: AttachmentRecord) -> list[Holder]:
        """Close what is open of a volume; return who has it open, and leave that as it is."""
        mapping = self.mapping(record)
        if mapping is None:
            return []
        self._step("close")
        for _ in range(TRIES):
            if luks.close(self.name(record), timeout=self.config.step_timeout):
                return []
            if used := lasting(partial(find_holders, mapping.path)):
                return used
        return [Holder("process", "opened again and again by processes that end at once")]

    # Within.

    def _own_mapping(self, record: AttachmentRecord, device: str) -> luks.Mapping | None:
        """Return the mapping over the volume's present device; one over a device that has gone is closed."""
        mapping = self.mapping(record)
        if mapping is None or mapping.is_over(device):
            return mapping
        if used := self.close(record):
            raise FailedPreconditionError(
                f"{mapping.path} is still over a former device of volume {record.name!r}, and in use: {describe(used)}; stop that first"
            )
        return None

    def _unfinished(self, device: str) -> bool:
        return luks.unfinished(device, timeout=self.config.step_timeout)

    def _finish(self, path: str) -> None:
        """Let a device that was just encrypted read as empty: what was never written to it reads as noise."""
        if probe(path, timeout=self.config.step_timeout).kind in (FILESYSTEM, OTHER):
            return
        self._step("zero")
        try:
            # O_EXCL: not while it is mounted, or part of another device.
            fd = os.open(path, os.O_WRONLY | os.O_EXCL | os.O_CLOEXEC)
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
            users = describe(find_holders(path)) or "a process that has ended by now"
            raise FailedPreconditionError(f"{path} was encrypted a moment ago, and is in use already: {users}; stop that first") from None
        try:
            with mmap.mmap(-1, _ZEROED) as zeros:
                os.pwrite(fd, zeros, 0)
            os.fsync(fd)
        finally:
            os.close(fd)
        block.flush(path)
