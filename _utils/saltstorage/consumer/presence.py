"""The presence of a recorded volume: which device of this host is its device now, if any.

The kernel gives names such as ``/dev/sdc`` and ``/dev/loop3`` anew in each boot and reuses them
within a boot, so a recorded name is only a place to look; the identity decides.
"""

from __future__ import annotations

import os

from .devices import block, loop
from .host.records import AttachmentRecord, Identity
from .status import GONE, LOST, OK, WRONG, Status


def look(record: AttachmentRecord, identity: Identity, link: str, tag: str) -> Status:
    """Compare the recorded device with the device that is there now.

    :param record: record of an attached volume.
    :param identity: its identity.
    :param link: path of the volume's link.
    :param tag: tag of this consumer's loop devices.
    :returns: ``ok``, ``gone``, ``wrong`` or ``lost``; sizes are not compared. When the device is
        gone, ``device`` is empty: the device there now is another volume's.
    """
    same_boot = record.boot_id == block.boot_id()
    device = record.device if same_boot else os.path.realpath(record.path)
    gone = Status(state=GONE, path=link, detail=f"the device {device} is gone")
    if not block.is_block(device):
        return gone
    try:
        device = block.top(device)
        found = block.identity(device)
    except OSError:
        return gone
    if identity.backing_file and (not found.backing_file or _number_was_reused(device, identity, found, tag)):
        return gone
    if not identity.named and not same_boot:
        # Nothing tells it from another device that got its name in this boot; it is attached
        # again, by its address.
        return gone
    wrong = block.differences(identity, found) or _later_device(identity, found)
    if wrong and not same_boot:
        # This is another device, and ours is not there yet.
        return gone
    if not wrong and found.backing_file and _inode(found.backing_file) != found.backing_inode:
        wrong = [f"the file {found.backing_file} was replaced by another, and the device is over the former one"]
    if wrong:
        return Status(state=WRONG, path=link, device=device, size=found.size, detail="; ".join(wrong))
    try:
        size = block.size(device)
    except OSError as error:
        # A SCSI device whose session was gone for longer than the host waits cannot be opened.
        return Status(state=LOST, path=link, device=device, size=found.size, detail=error.strerror or "it cannot be opened")
    return Status(state=OK, path=link, device=device, size=size)


def current(record: AttachmentRecord, tag: str) -> list[str]:
    """Return the present devices of a volume: none, one, or, after a crash, perhaps more.

    :param tag: tag of this consumer's loop devices.
    """
    if record.file:
        return _loops(record, tag)
    paths = [os.path.realpath(record.path)] if record.path.startswith("/dev/disk/") else []
    if record.device and record.boot_id == block.boot_id():
        paths.append(record.device)
    paths = [block.top(path) for path in paths if block.is_block(path)]
    return [path for path in dict.fromkeys(paths) if _is_same(record, path)]


def _loops(record: AttachmentRecord, tag: str) -> list[str]:
    found: list[str] = []
    if os.path.exists(record.file):
        found += [status.path for status in loop.find(record.file, tag) if status.tag == tag]
    # The file may have been deleted or replaced under the device.
    if record.device and record.boot_id == block.boot_id():
        status = loop.status(record.device)
        if status is not None and status.tag == tag:
            inode = record.identity.backing_inode if record.identity is not None else 0
            if status.inode == inode or status.backing_file.removesuffix(" (deleted)") == os.path.realpath(record.file):
                found.append(record.device)
    return list(dict.fromkeys(found))


def _number_was_reused(device: str, identity: Identity, found: Identity, tag: str) -> bool:
    """Return whether the kernel gave our loop device's number to a device over another file.

    The same path with another inode is no such case (the file was replaced under the device), nor
    is our own device over the same inode (the file was renamed or deleted).
    """
    if found.backing_file.removesuffix(" (deleted)") == identity.backing_file:
        return False
    status = loop.status(device)
    return status is None or status.tag != tag or found.backing_inode != identity.backing_inode


def _is_same(record: AttachmentRecord, path: str) -> bool:
    identity = record.identity
    if identity is None:
        return True
    if not identity.named and record.boot_id != block.boot_id():
        return False
    try:
        found = block.identity(path)
    except OSError:
        return False
    return not block.differences(identity, found) and not _later_device(identity, found)


def _later_device(identity: Identity, found: Identity) -> list[str]:
    """Return, in words, that a device came later in this boot than the recorded device.

    Only a device that nothing else tells from others is compared so.
    """
    if identity.named or not identity.diskseq or identity.diskseq == found.diskseq:
        return []
    return [f"it came later under the same name (diskseq is {found.diskseq}, not {identity.diskseq})"]


def _inode(path: str) -> int:
    try:
        return os.stat(path).st_ino
    except OSError:
        return 0
