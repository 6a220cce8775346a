"""The steps of attaching and detaching one volume.

Each step is recorded before it is done, so that a crash at any point is resumed.  The caller holds
the volume's lock.
"""

from __future__ import annotations

import contextlib
import os
from functools import partial

from ..errors import DataLossError, FailedPreconditionError, InternalError, StorageError, UnimplementedError
from . import presence
from .devices import block, links, loop, mounts
from .devices.holders import TRIES, Holder, describe, lasting
from .devices.holders import find as find_holders
from .encryption import Encryption
from .filesystems import mounting
from .host import commands
from .host.records import ATTACHED, DETACHED, DETACHING, AttachmentRecord, Identity
from .localhost import LocalHost


class Steps:
    """Attaches, grows and detaches the device of one volume, by its record.

    :param host: this host.
    :param encryption: closes encrypted volumes.
    """

    def __init__(self, host: LocalHost, encryption: Encryption) -> None:
        self._records = host.records
        self._links = host.links
        self._brick = host.brick
        self._tag = host.tag
        self._step = host.step
        self._encryption = encryption

    def attach(self, record: AttachmentRecord) -> AttachmentRecord:
        """Attach by a record, check the device, link it, and return the new record."""
        self._step("record attaching")
        record = self._records.save(record, durable=False)
        with self._brick.shares.hold(record.connection_info):
            record, device = self._connect(record)
        if not record.file:
            self._settle()  # Else its links in /dev/disk/by-id might not be there yet.
        record = record.replace(device=os.path.realpath(device), path=links.stable_path(device), boot_id=block.boot_id())
        if not record.file:
            record = self._records.save(record, durable=False)
        self._step("check")
        try:
            identity = self._verify(record)
        except DataLossError:
            self._let_go(record)
            raise
        block.set_read_only(record.device, record.read_only)
        if not record.encrypted:
            # An encrypted volume gets its link when it is open: nobody shall write past the
            # encryption.
            self._step("link")
            self._links.make(record.name, record.path)
        self._step("record attached")
        return self._records.save(record.replace(state=ATTACHED, identity=identity), durable=False)

    def _connect(self, record: AttachmentRecord) -> tuple[AttachmentRecord, str]:
        """Let os-brick attach, and return the record with os-brick's answer, and the device."""
        self._step("connect")
        device_info = self._brick.connect(record.connection_info, use_multipath=record.use_multipath)
        path = device_info.get("path")
        if not isinstance(path, str) or not path:
            raise InternalError(f"os-brick returned no path for the volume {record.name!r}")
        record = record.replace(device_info=device_info, file="" if block.is_block(path) else path)
        if record.file:
            # Recorded before the device is made: the device over a known file is found again.
            record = self._records.save(record, durable=False)
        self._step("device")
        return record, self._block_device(record, path)

    def _block_device(self, record: AttachmentRecord, path: str) -> str:
        if block.is_block(path):
            return block.top(path)
        if os.path.isfile(path) or not os.path.exists(path):
            device = loop.attach(path, self._tag, read_only=record.read_only)
            loop.refresh_size(device)  # An earlier device may have been made before the volume grew.
            return device
        raise InternalError(f"os-brick returned {path} for the volume {record.name!r}, which is neither a device nor a file")

    def _verify(self, record: AttachmentRecord) -> Identity:
        """Return the identity of the recorded device when it is readable and the volume."""
        block.check_readable(record.device)
        found = block.identity(record.device)
        wrong = block.differences(record.identity, found) if record.identity is not None else []
        if wrong:
            raise DataLossError(
                f"the device {record.device} that appeared for the volume {record.name!r} is another one: {'; '.join(wrong)}; "
                "it was not linked. Look for an old device of the same LUN on this host"
            )
        if record.identity is not None and not record.file:
            # The disk may have been there all the time, while the volume grew unmapped: os-brick
            # does not rescan such a disk.
            least = block.least(record.size, adopted=record.adopted)
            if block.size(record.device) < least:
                self.extend(record, record.device, least)
        # A device with a proven identity may have grown while this host was down.
        block.check_size(record.device, record.size, grown=record.identity is not None, adopted=record.adopted)
        return found

    def extend(self, record: AttachmentRecord, device: str, least: int) -> None:
        """Let a disk show its present size.

        :param least: bytes that the volume has by now, at least.
        """

        def enough() -> bool:
            if not record.use_multipath:
                block.resize_map(device)
            return block.size(device) >= least

        self._brick.extend(record.connection_info, use_multipath=record.use_multipath, enough=enough)

    def _let_go(self, record: AttachmentRecord) -> None:
        """Detach a device that turned out to be wrong, unless it is in use."""
        self._links.remove(record.name)
        with contextlib.suppress(StorageError, OSError):
            if not self.holders(record.replace(identity=None)) and not self._detach_loops(record.replace(identity=None)):
                self._disconnect(record.replace(identity=None), force=False)

    def detach(self, record: AttachmentRecord, force: bool) -> list[str]:
        """Detach a record's device unless it is in use, and return warnings about lost data."""
        # Detaching a loop device tells whether it is open; only then its processes are worth a
        # search.
        used = self.holders(record, processes=not record.file) or self._holders_of_other_device(record)
        if used:
            raise _in_use_error(record, used)
        warnings = self._flush(record, force)
        self._step("record detaching")
        former, record = record, self._records.save(record.replace(state=DETACHING), durable=False)
        self._step("unlink")
        self._links.remove(record.name)
        used = self._encryption.close(record)
        mapping = self._encryption.mapping(record)
        used = used or self._detach_loops(record)
        if used:
            if former.state == ATTACHED and (mapping or not record.encrypted):
                self._links.make(record.name, mapping.path if mapping else record.path)
                self._records.save(former, durable=False)
            raise _in_use_error(record, used)
        self._disconnect(record, force=force)
        self._step("record detached")
        self._records.save(record.replace(state=DETACHED, device="", path=""))
        return warnings

    def discard(self, record: AttachmentRecord) -> None:
        """Remove a stale device: cut it off from the storage first, then unmount and detach it."""
        self._step("record detaching")
        record = self._records.save(record.replace(state=DETACHING))
        self._step("cut off")
        present = presence.current(record, self._tag)
        for device in present:
            block.cut_off(device)
        mapping = self._encryption.mapping(record)
        for device in [*([mapping.path] if mapping else []), *present]:
            for mount in reversed(mounts.of_device(device)):
                mounting.detach(mount.path, timeout=60)
        self._links.remove(record.name)
        used = self._encryption.close(record) or self._detach_loops(record)
        if used:
            raise _in_use_error(record, used)
        self._disconnect(record, force=True)
        self._step("record detached")
        self._records.save(record.replace(state=DETACHED, device="", path=""))

    def _flush(self, record: AttachmentRecord, force: bool) -> list[str]:
        warnings = []
        mapping = self._encryption.mapping(record)
        for device in [*([mapping.path] if mapping else []), *presence.current(record, self._tag)]:
            self._step("flush")
            try:
                block.flush(device)
            except OSError as error:
                text = f"cached data of the volume {record.name!r} cannot be written: {error.strerror}"
                if not force:
                    raise DataLossError(f"{text}; it stays attached. With force: true it is detached and that data is lost") from None
                warnings.append(f"{text}; data may be lost")
        return warnings

    def _detach_loops(self, record: AttachmentRecord) -> list[Holder]:
        """Detach the loop devices of a volume, and return the holders that prevent it, if any."""
        for device in presence.current(record, self._tag) if record.file else []:
            self._step("detach loop")
            for _ in range(TRIES):
                # Compared again: after somebody else detached it, its number may be another file's.
                if device not in presence.current(record, self._tag) or loop.detach(device):
                    break
                if used := lasting(partial(find_holders, device)):
                    return used
            else:
                return [Holder("process", "opened again and again by processes that end at once")]
        return []

    def _disconnect(self, record: AttachmentRecord, *, force: bool) -> None:
        """Let os-brick detach, and check that nothing is left."""
        self._step("disconnect")
        if record.connection_info:
            try:
                self._brick.disconnect(record.connection_info, record.device_info, use_multipath=record.use_multipath, force=force)
            except UnimplementedError:
                # Without a connector for it, this host has never attached it.
                if record.device_info:
                    raise
        left = presence.current(record, self._tag)
        if left and not self._brick.stays(record.connection_info):
            raise InternalError(f"os-brick detached the volume {record.name!r}, and its device {left[0]} is still there")

    def holders(self, record: AttachmentRecord, *, processes: bool = True) -> list[Holder]:
        """Return the users of a record's device; none when it is gone.

        :param processes: look also for processes that have it open.
        """
        present = presence.current(record, self._tag)
        mapping = self._encryption.mapping(record)
        if not present and mapping is None:
            return []
        self._settle()
        own = self._encryption.name(record) if mapping else ""

        def look() -> list[Holder]:
            found = find_holders(mapping.path, processes=processes) if mapping else []
            return found + [holder for device in present for holder in find_holders(device, processes=processes, besides=own)]

        return lasting(look)

    def _holders_of_other_device(self, record: AttachmentRecord) -> list[Holder]:
        """Return the users of another device that os-brick would remove.

        When the volume's own device is gone, os-brick removes the device at the recorded address,
        which may by now be another volume in use.
        """
        if record.file or not record.device_info or presence.current(record, self._tag):
            return []
        paths = self._brick.volume_paths(record.connection_info, use_multipath=record.use_multipath)
        found = dict.fromkeys(block.top(os.path.realpath(path)) for path in paths if block.is_block(path))
        return lasting(lambda: [holder for device in found for holder in find_holders(device)])

    def _settle(self) -> None:
        """Let udev end its look at the device; else udev would be found as a holder."""
        if os.path.exists("/run/udev/control"):
            commands.run("wait for udev", ["udevadm", "settle", "--timeout=30"], timeout=60, ok=(0, 1))


def _in_use_error(record: AttachmentRecord, used: list[Holder]) -> FailedPreconditionError:
    return FailedPreconditionError(
        f"the volume {record.name!r} is in use: {describe(used)}; stop that first", details={"holders": [str(holder) for holder in used]}
    )
