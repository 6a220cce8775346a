"""The steps of attaching and detaching one volume, each recorded before it is done, so that a crash at any point is resumed.

The caller holds the volume's lock.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from functools import partial

from ..errors import DataLossError, FailedPreconditionError, InternalError, StorageError, UnimplementedError
from . import presence
from .connectors.brick import Brick
from .devices import block, links, loop, mounts
from .devices.holders import TRIES, Holder, describe, lasting
from .devices.holders import find as find_holders
from .encryption import Encryption
from .filesystems import mounting
from .host import commands
from .host.records import ATTACHED, DETACHED, DETACHING, AttachmentRecord, Identity, RecordStore


class Steps:
    """What is done to this host for one volume.

    :param tag: tag of this consumer's loop devices.
    :param encryption: opens and closes what is encrypted.
    :param step: called with the name of each step before it is done.
    """

    def __init__(
        self,
        store: RecordStore,
        device_links: links.DeviceLinks,
        brick: Brick,
        tag: str,
        encryption: Encryption,
        step: Callable[[str], None],
    ) -> None:
        self.records = store
        self.links = device_links
        self.brick = brick
        self.tag = tag
        self.encryption = encryption
        self._step = step

    def attach(self, record: AttachmentRecord) -> AttachmentRecord:
        """Attach by the record, which has all that is needed, check the device, link it, and return the record as it is then."""
        self._step("record attaching")
        record = self.records.save(record, durable=False)
        with self.brick.shares.held(record.connection_info):
            record, device = self._connect(record)
        if not record.file:
            self._settle()  # Or its links in /dev/disk/by-id might not be there yet.
        record = record.replace(device=os.path.realpath(device), path=links.stable_path(device), boot_id=block.boot_id())
        if not record.file:
            record = self.records.save(record, durable=False)
        self._step("check")
        try:
            identity = self._verified(record)
        except DataLossError:
            self._let_go(record)
            raise
        block.set_read_only(record.device, record.read_only)
        if not record.encrypted:
            # The link of an encrypted one is made when it is open: nobody shall write past the encryption.
            self._step("link")
            self.links.make(record.name, record.path)
        self._step("record attached")
        return self.records.save(record.replace(state=ATTACHED, identity=identity), durable=False)

    def _connect(self, record: AttachmentRecord) -> tuple[AttachmentRecord, str]:
        """Let os-brick attach, and return the record with what it answered, and the device."""
        self._step("connect")
        device_info = self.brick.connect(record.connection_info, use_multipath=record.use_multipath)
        path = device_info.get("path")
        if not isinstance(path, str) or not path:
            raise InternalError(f"os-brick returned no path for the volume {record.name!r}")
        record = record.replace(device_info=device_info, file="" if block.is_block(path) else path)
        if record.file:
            # Recorded before the device is made: with the file known, the device over it is found again.
            record = self.records.save(record, durable=False)
        self._step("device")
        return record, self._block_device(record, path)

    def _block_device(self, record: AttachmentRecord, path: str) -> str:
        if block.is_block(path):
            return block.top(path)
        if os.path.isfile(path) or not os.path.exists(path):
            device = loop.attach(path, self.tag, read_only=record.read_only)
            loop.refresh_size(device)  # One that was there may have been made before the volume grew.
            return device
        raise InternalError(f"os-brick returned {path} for the volume {record.name!r}, which is neither a device nor a file")

    def _verified(self, record: AttachmentRecord) -> Identity:
        """Return the identity of the recorded device when it is readable and the volume."""
        block.check_readable(record.device)
        found = block.identity(record.device)
        wrong = block.differences(record.identity, found) if record.identity is not None else []
        if wrong:
            raise DataLossError(
                f"the device {record.device} that appeared for the volume {record.name!r} is another one: {'; '.join(wrong)}; "
                "it was not linked. Look for a stale device of the same LUN on this host"
            )
        if record.identity is not None and not record.file:
            # The disk was there all the time, and the volume has grown while it was not mapped: os-brick leaves such a disk as it is.
            least = block.least(record.size, adopted=record.adopted)
            if block.size(record.device) < least:
                self.extend(record, record.device, least)
        # One that has proven who it is may have grown while this host was down.
        block.check_size(record.device, record.size, grown=record.identity is not None, adopted=record.adopted)
        return found

    def extend(self, record: AttachmentRecord, device: str, least: int) -> None:
        """Let a disk show its present size.

        :param least: bytes that it has at least by now.
        """

        def enough() -> bool:
            if not record.use_multipath:
                block.resize_map(device)
            return block.size(device) >= least

        self.brick.extend(record.connection_info, use_multipath=record.use_multipath, enough=enough)

    def _let_go(self, record: AttachmentRecord) -> None:
        """Detach a device that turned out to be wrong, unless somebody uses it."""
        self.links.remove(record.name)
        with contextlib.suppress(StorageError, OSError):
            if not self.used(record.replace(identity=None)) and not self._detach_loops(record.replace(identity=None)):
                self._disconnect(record.replace(identity=None), force=False)

    def detach(self, record: AttachmentRecord, force: bool) -> list[str]:
        """Detach what is attached of a record when nobody uses it, and return what was lost by ``force``."""
        # The kernel says whether a loop device is open when it is to be detached; only then is it worth to find out in whom.
        used = self.used(record, processes=not record.file) or self._in_the_way(record)
        if used:
            raise _in_use(record, used)
        warnings = self._flush(record, force)
        self._step("record detaching")
        former, record = record, self.records.save(record.replace(state=DETACHING), durable=False)
        self._step("unlink")
        self.links.remove(record.name)
        used = self.encryption.close(record)
        mapping = self.encryption.mapping(record)
        used = used or self._detach_loops(record)
        if used:
            if former.state == ATTACHED and (mapping or not record.encrypted):
                self.links.make(record.name, mapping.path if mapping else record.path)
                self.records.save(former, durable=False)
            raise _in_use(record, used)
        self._disconnect(record, force=force)
        self._step("record detached")
        self.records.save(record.replace(state=DETACHED, device="", path=""))
        return warnings

    def discard(self, record: AttachmentRecord) -> None:
        """Remove a stale device: first nothing reaches the storage any more, then it is unmounted and detached."""
        self._step("record detaching")
        record = self.records.save(record.replace(state=DETACHING))
        self._step("cut off")
        present = presence.current(record, self.tag)
        for device in present:
            block.cut_off(device)
        mapping = self.encryption.mapping(record)
        for device in [*([mapping.path] if mapping else []), *present]:
            for mount in reversed(mounts.of_device(device)):
                mounting.detach(mount.path, timeout=60)
        self.links.remove(record.name)
        used = self.encryption.close(record) or self._detach_loops(record)
        if used:
            raise _in_use(record, used)
        self._disconnect(record, force=True)
        self._step("record detached")
        self.records.save(record.replace(state=DETACHED, device="", path=""))

    def _flush(self, record: AttachmentRecord, force: bool) -> list[str]:
        warnings = []
        mapping = self.encryption.mapping(record)
        for device in [*([mapping.path] if mapping else []), *presence.current(record, self.tag)]:
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
        """Detach the loop devices of a volume; return who has one open, and leave that as it is."""
        for device in presence.current(record, self.tag) if record.file else []:
            self._step("detach loop")
            for _ in range(TRIES):
                # Looked up again, since the number may be another's when somebody else has detached it meanwhile.
                if device not in presence.current(record, self.tag) or loop.detach(device):
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
                self.brick.disconnect(record.connection_info, record.device_info, use_multipath=record.use_multipath, force=force)
            except UnimplementedError:
                # What this host has no connector for was never attached.
                if record.device_info:
                    raise
        left = presence.current(record, self.tag)
        if left and not self.brick.stays(record.connection_info):
            raise InternalError(f"os-brick detached the volume {record.name!r}, and its device {left[0]} is still there")

    def used(self, record: AttachmentRecord, *, processes: bool = True) -> list[Holder]:
        """Return who uses the device of a record; nobody when it is gone.

        :param processes: look also for processes that have it open.
        """
        present = presence.current(record, self.tag)
        mapping = self.encryption.mapping(record)
        if not present and mapping is None:
            return []
        self._settle()
        own = self.encryption.name(record) if mapping else ""

        def look() -> list[Holder]:
            found = find_holders(mapping.path, processes=processes) if mapping else []
            return found + [holder for device in present for holder in find_holders(device, processes=processes, besides=own)]

        return lasting(look)

    def _in_the_way(self, record: AttachmentRecord) -> list[Holder]:
        """Return who uses what os-brick would remove, when the volume's own device is not to be found.

        It removes what is at the recorded address, and that may by now be another volume in use.
        """
        if record.file or not record.device_info or presence.current(record, self.tag):
            return []
        paths = self.brick.volume_paths(record.connection_info, use_multipath=record.use_multipath)
        found = dict.fromkeys(block.top(os.path.realpath(path)) for path in paths if block.is_block(path))
        return lasting(lambda: [holder for device in found for holder in find_holders(device)])

    def _settle(self) -> None:
        """Let udev end looking at the device; it would be found as a holder."""
        if os.path.exists("/run/udev/control"):
            commands.run("wait for udev", ["udevadm", "settle", "--timeout=30"], timeout=60, ok=(0, 1))


def _in_use(record: AttachmentRecord, used: list[Holder]) -> FailedPreconditionError:
    return FailedPreconditionError(
        f"the volume {record.name!r} is in use: {describe(used)}; stop that first", details={"holders": [str(holder) for holder in used]}
    )
