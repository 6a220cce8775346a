"""A volume that was taken from this host while it was fenced: what the host still has of it is stale, and goes unwritten."""

from __future__ import annotations

from ..consumer.filesystems.fstab import Fstab
from ..flow.flow import Flow
from .skeleton import Changes, Plan, change


def plan(flow: Flow, owner: str, name: str) -> Plan | None:
    """Plan to remove what is left of such a volume here, for a state that would else write to it; None when it is no such volume."""
    stale = flow.fenced(owner, name)
    if not stale:
        return None
    attached = flow.consumer.attachment(name)
    device = (attached.device or attached.path or None) if attached is not None else None
    text = f"Volume {name!r} was taken from this host while it was fenced; what is left of it here would be removed."
    return Plan(text, {"path": change(device, None)}, lambda: discard(flow, owner, name, stale))


def discard(flow: Flow, owner: str, name: str, volume_ids: list[str]) -> tuple[Changes, str]:
    """Remove the stale device, its mounts, their entries in the table of file systems, and the record.

    :param volume_ids: as :meth:`saltstorage.flow.flow.Flow.fenced` returned them.
    """
    table = Fstab(flow.consumer.config.fstab)
    entries = table.of_device(flow.consumer.links.path(name))
    device = flow.discard(owner, name, *volume_ids)
    for entry in entries:
        table.remove(entry.mount_point, entry.device)
    return {"path": change(device or "recorded", None)}, told(name, device)


def told(name: str, device: str) -> str:
    """Return what was done, for a state's comment.

    >>> told("data", "")
    "Volume 'data' was taken from this host while it was fenced; no device of it was left here, and its record was removed."
    """
    what = f"its stale device {device} was removed, and what had not been written is lost"
    if not device:
        what = "no device of it was left here, and its record was removed"
    return f"Volume {name!r} was taken from this host while it was fenced; {what}."
