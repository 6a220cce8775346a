"""Making a file system on a volume, or encrypting it: once, and recorded on both ends before.

Nothing is written before the controller has recorded it. Only with that record, and this host's
own, can the content of a device be what this host left when it was cut off.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..consumer.attachment import Attachment
from ..consumer.devices import probe
from ..consumer.filesystems import mkfs
from ..errors import AlreadyExistsError, DataLossError, FailedPreconditionError, StorageError
from ..model import Volume
from .flow import Flow


def make_file_system(flow: Flow, owner: str, name: str, fstype: str, options: list[str]) -> None:
    """Make a file system on an attached volume that is empty and was never formatted.

    :raises DataLossError: the volume was formatted before, and its device reads as empty.
    :raises StorageError: as :func:`saltstorage.consumer.filesystems.mkfs.make` says.
    """
    consumer = flow.consumer
    with consumer.lock(name):
        device = consumer.device(name)
        begun = consumer.begin_format(name)
        was, ours = _mark(flow, owner, name, begun, consumer.end_format, {})
        if was and not ours:
            consumer.end_format(name)
            raise DataLossError(
                f"volume {name!r} had a file system before, but {device} is empty; find out why. If nothing on it is needed, make the"
                f" file system by hand (mkfs.{fstype} {device}) and apply again"
            )
        try:
            mkfs.make(device, fstype, options=options, resume=was and ours, timeout=consumer.config.format_timeout)
        except (AlreadyExistsError, FailedPreconditionError):
            # Refused before mkfs was run, so that nothing on the device is ours.
            consumer.end_format(name)
            raise
        consumer.end_format(name)


def probe_device(flow: Flow, device: str) -> probe.Probe:
    """Read a device, and return the kind of its content."""
    return probe.probe(device, timeout=flow.consumer.config.step_timeout)


def end(flow: Flow, name: str) -> None:
    """Record that the file system of an attached volume is finished, by whomever it was made."""
    flow.consumer.end_format(name)


def open_encrypted(flow: Flow, volume: Volume, attachment: Attachment) -> bool:
    """Open an attached volume, encrypting it first when it is empty and never was.

    Return whether it was encrypted now.
    """
    consumer, name, owner = flow.consumer, volume.name, volume.owner
    made = consumer.needs_encryption(name)
    if made:
        if attachment.read_only:
            raise FailedPreconditionError(f"volume {name!r} is not encrypted yet, and is connected read-only", field="read_only")
        if volume.formatted and not volume.encrypted:
            # An adopted volume, or its copy: its former user may have written where nobody looked.
            raise DataLossError(
                f"volume {name!r} was adopted, and {attachment.device} holds nothing encrypted; if nothing on it is needed, encrypt it"
                f" by hand (cryptsetup luksFormat {attachment.device}) and apply again"
            )
        _encrypt(flow, owner, name, attachment.device)
    consumer.open(name)
    if not made and not volume.encrypted and not attachment.read_only:
        # It was encrypted by others, or by hand: from now on nobody may use it as if it were not.
        flow.ask("mark_formatted", {"name": name, "encryption": True, **flow.owner_args(owner)})
    return made


def _encrypt(flow: Flow, owner: str, name: str, device: str) -> None:
    consumer = flow.consumer
    begun = consumer.begin_encryption(name)
    was, ours = _mark(flow, owner, name, begun, consumer.end_encryption, {"encryption": True})
    if was and not ours:
        consumer.end_encryption(name)
        raise DataLossError(
            f"volume {name!r} was encrypted before, but {device} is empty; find out why. If nothing on it is needed,"
            f" encrypt it by hand (cryptsetup luksFormat {device}) and apply again"
        )
    try:
        consumer.encrypt(name, resume=was and ours)
    except (AlreadyExistsError, FailedPreconditionError):
        consumer.end_encryption(name)
        raise


def _mark(flow: Flow, owner: str, name: str, begun: bool, end: Callable[[str], None], args: Mapping[str, Any]) -> tuple[bool, bool]:
    """Have the controller record that a volume is about to be formatted or encrypted.

    :param begun: whether this host's record says that it began that before.
    :param end: takes that back.
    :returns: whether it was recorded before, and whether the content of the device can then be
        what this host left.
    """
    try:
        was = flow.ask("mark_formatted", {"name": name, **args, **flow.owner_args(owner)})["was"]
    except StorageError as error:
        if not begun and error.final:
            end(name)
        raise
    # Nothing is written before the mark, so only a host that had begun can have left the content of
    # the device. On a shared volume, another host may have made it meanwhile.
    return was, begun and owner == flow.minion
