"""Encryption of volumes on this host.

A mapping, open or not, stands between a volume's device and ``/dev/storage/<name>``.  The record
of the attachment says that the volume is encrypted and where its passphrase is; whether it is open
is read from the kernel each time.  The caller holds the volume's lock.
"""

from __future__ import annotations

import dataclasses
import errno
import mmap
import os
from functools import partial

from ..errors import AlreadyExistsError, FailedPreconditionError, UnavailableError
from .devices import block, luks
from .devices.holders import TRIES, Holder, describe, lasting
from .devices.holders import find as find_holders
from .devices.probe import EMPTY, FILESYSTEM, OTHER, UNKNOWN, probe
from .host.records import AttachmentRecord
from .localhost import LocalHost
from .passphrase import Reader
from .status import GONE, LOCKED, OK, SIZE, Status

_ZEROED = 2**20


class Encryption:
    """Makes, opens, grows and closes encrypted volumes on this host.

    :param host: this host.
    :param secrets: reads the passphrase of a volume: ``secrets(reference, name)``.
    """

    def __init__(self, host: LocalHost, secrets: Reader) -> None:
        self._host = host
        self._config = host.config
        self._secrets = secrets

    def name(self, record: AttachmentRecord) -> str:
        """Return the name of a volume's mapping, which is the same at each opening."""
        return luks.name(record.volume_id, self._host.tag)

    def mapping(self, record: AttachmentRecord) -> luks.Mapping | None:
        """Return the mapping of a volume, or None; it may still be over a device that is gone."""
        return luks.find(self.name(record)) if record.encrypted else None

    def device(self, record: AttachmentRecord) -> str:
        """Return the path of a volume's open device; empty unless it is open."""
        mapping = self.mapping(record)
        return mapping.path if mapping is not None else ""

    def is_open(self, record: AttachmentRecord, device: str) -> bool:
        """Return whether a volume is open, over this device, and linked."""
        mapping = self.mapping(record)
        return mapping is not None and mapping.is_over(device) and self._host.links.target(record.name) == mapping.path

    def status(self, record: AttachmentRecord, raw: Status) -> Status:
        """Return the status of a volume whose device was found to be right.

        :param raw: status of that device.
        """
        mapping = self.mapping(record)
        if mapping is None or not mapping.is_over(raw.device):
            return Status(state=LOCKED, path=raw.path, size=raw.size, detail="it is encrypted, and not open")
        shown = block.size(mapping.path) + record.header
        status = Status(state=OK, path=raw.path, device=mapping.path, size=shown)
        if shown != raw.size:
            detail = f"the open device and its header have {shown} bytes, the volume {raw.size}"
            return dataclasses.replace(status, state=SIZE, detail=detail)
        if self._host.links.target(record.name) != mapping.path:
            return dataclasses.replace(status, state=GONE, detail="its link is missing or wrong")
        return status

    def passphrase(self, name: str, reference: str) -> bytes:
        """Return the passphrase of a volume, read now.

        :param name: name of the volume.
        :param reference: where its passphrase is.
        :raises FailedPreconditionError: there is no passphrase, or this host cannot open encrypted
            volumes.
        """
        luks.require()
        return self._secrets(reference, name)

    def open(self, record: AttachmentRecord, device: str) -> AttachmentRecord:
        """Open a volume that holds encrypted data, link it, and return its new record.

        :param device: its device, which was found to be right.
        :raises AlreadyExistsError: it holds other data.
        :raises FailedPreconditionError: it is empty, or the passphrase is wrong.
        """
        mapping = self._own_mapping(record, device)
        if mapping is None:
            self._check_encrypted(record, device)
            passphrase = self.passphrase(record.name, record.passphrase)
            self._host.step("open")
            luks.open_(device, self.name(record), passphrase, read_only=record.read_only, timeout=self._config.step_timeout)
            mapping = self._own_mapping(record, device)
            if mapping is None:
                raise UnavailableError(f"cryptsetup succeeded, but {device} is not open; look at the kernel's log")
        record = record.replace(header=block.size(device) - block.size(mapping.path))
        if record.encrypting:
            # There was no link yet, so only somebody who opened it by hand can have written to it.
            self._finish(mapping.path)
            record = record.replace(encrypting=False)
        # Saved before the link is made: data written through the link must never be taken for the
        # remains of an interrupted making.
        self._host.step("record opened")
        record = self._host.records.save(record)
        self._host.step("link")
        self._host.links.make(record.name, mapping.path)
        return record

    def make(self, record: AttachmentRecord, device: str, *, resume: bool) -> None:
        """Encrypt an empty volume.

        Its record and the controller say already that this is being done.

        :param resume: the remains of an interrupted making may be overwritten.
        :raises AlreadyExistsError: the device is not empty.
        """
        found = probe(device, timeout=self._config.step_timeout)
        cut_off = resume and (found.kind == UNKNOWN or self._unfinished(device))
        if found.kind != EMPTY and not cut_off:
            raise AlreadyExistsError(f"volume {record.name!r} holds {found}, and is not encrypted; empty it by hand if it is not needed")
        passphrase = self.passphrase(record.name, record.passphrase)
        self._host.step("encrypt")
        luks.make(device, passphrase, self._config.luks_format_options, timeout=self._config.format_timeout)

    def needs_making(self, record: AttachmentRecord, device: str) -> bool:
        """Return whether a volume is not encrypted yet, or only half."""
        found = probe(device, timeout=self._config.step_timeout)
        if found.kind == OTHER and found.fstype == luks.TYPE:
            return record.encrypting and self._unfinished(device)
        return found.kind == EMPTY or (record.encrypting and found.kind == UNKNOWN)

    def grow(self, record: AttachmentRecord, device: str) -> None:
        """Let an open volume become as large as its device."""
        mapping = self.mapping(record)
        if mapping is not None and mapping.is_over(device) and block.size(mapping.path) + record.header != block.size(device):
            self._host.step("grow the mapping")
            passphrase = self.passphrase(record.name, record.passphrase)
            luks.resize(self.name(record), device, passphrase, timeout=self._config.step_timeout)

    def close(self, record: AttachmentRecord) -> list[Holder]:
        """Close a volume's open device, and return the holders that prevent it, if any."""
        mapping = self.mapping(record)
        if mapping is None:
            return []
        self._host.step("close")
        for _ in range(TRIES):
            if luks.close(self.name(record), timeout=self._config.step_timeout):
                return []
            if used := lasting(partial(find_holders, mapping.path)):
                return used
        return [Holder("process", "opened again and again by processes that end at once")]

    def _check_encrypted(self, record: AttachmentRecord, device: str) -> None:
        found = probe(device, timeout=self._config.step_timeout)
        if found.kind == EMPTY:
            raise FailedPreconditionError(f"volume {record.name!r} is empty, and not encrypted yet; apply storage_volume.connected")
        if found.kind != OTHER or found.fstype != luks.TYPE:
            raise AlreadyExistsError(
                f"volume {record.name!r} holds {found}, which is not encrypted, and is left as it is; disconnect it, and connect it"
                " without encrypted",
                field="encrypted",
            )

    def _own_mapping(self, record: AttachmentRecord, device: str) -> luks.Mapping | None:
        """Return the mapping over the volume's present device; close one over a former device."""
        mapping = self.mapping(record)
        if mapping is None or mapping.is_over(device):
            return mapping
        if used := self.close(record):
            raise FailedPreconditionError(
                f"{mapping.path} is still over a former device of volume {record.name!r}, and in use: {describe(used)}; stop that first"
            )
        return None

    def _unfinished(self, device: str) -> bool:
        return luks.unfinished(device, timeout=self._config.step_timeout)

    def _finish(self, path: str) -> None:
        """Let a newly encrypted device read as empty: its unwritten blocks read as noise."""
        if probe(path, timeout=self._config.step_timeout).kind in (FILESYSTEM, OTHER):
            return
        self._host.step("zero")
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
