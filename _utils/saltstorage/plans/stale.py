"""The stale device of a volume that was taken from this host while it was fenced.

It is removed, and nothing is written to it.
"""

from __future__ import annotations

from ..flow import fencing
from ..flow.flow import Flow
from .skeleton import Changes, Plan, change


def plan(flow: Flow, owner: str, name: str) -> Plan | None:
    """Plan to remove a stale device, for a state that would else write to it.

    None when the device is not stale.
    """
    fenced = fencing.fenced(flow, owner, name)
    if not fenced:
        return None
    attached = flow.attachment(name)
    device = (attached.device or attached.path or None) if attached is not None else None
    text = f"Volume {name!r} was taken from this host while it was fenced; what is left of it here would be removed."
    return Plan(text, {"path": change(device, None)}, lambda: discard(flow, owner, name, fenced))


def discard(flow: Flow, owner: str, name: str, volume_ids: list[str]) -> tuple[Changes, str]:
    """Remove the stale device, its mounts, their lines in fstab, and the record.

    :param volume_ids: as :func:`saltstorage.flow.fencing.fenced` returned them.
    """
    device = fencing.discard_with_entries(flow, owner, name, *volume_ids)
    return {"path": change(device or "recorded", None)}, comment(name, device)


def comment(name: str, device: str) -> str:
    """Return a sentence on the device that was removed.

    >>> comment("data", "").partition("; ")[2]
    'no device of it was left here, and its record was removed.'
    """
    what = f"its stale device {device} was removed, and what had not been written is lost"
    if not device:
        what = "no device of it was left here, and its record was removed"
    return f"Volume {name!r} was taken from this host while it was fenced; {what}."
