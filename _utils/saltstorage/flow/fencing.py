"""Stale devices: a volume was taken from this host while it was fenced.

Nothing may be written to such a volume from here any more.
"""

from __future__ import annotations

import logging

from ..errors import AlreadyExistsError, FailedPreconditionError
from . import mount_points
from .flow import Flow

log = logging.getLogger(__name__)


def fenced(flow: Flow, owner: str, name: str) -> list[str]:
    """Return the ids of a volume that was taken from this host while it was fenced; else none.

    The device of such a volume is stale here.

    Two volumes are looked at: the attachment under the name, and the volume that has the name now.
    The attached volume may have been moved, renamed, given to another owner, let go of or deleted
    since.
    """
    inventory, attached = flow.inventory(), flow.attachment(name)
    here = attached.volume_id if attached is not None and attached.owner == owner else ""
    volume = inventory.volume(owner, name)
    return inventory.fenced(here, volume.id if volume is not None else "")


def refuse_stale(flow: Flow, owner: str, name: str, doing: str) -> None:
    """Raise FailedPreconditionError when the device of a volume is stale here.

    ``doing`` it would write to the volume.
    """
    if flow.attachment(name) is not None and fenced(flow, owner, name):
        raise FailedPreconditionError(
            f"volume {name!r} was taken from this host while it was fenced, and what is left of it here is stale; it is not {doing}."
            " Apply storage_volume.disconnected, which removes it and writes nothing"
        )


def discard(flow: Flow, owner: str, name: str, *volume_ids: str) -> str:
    """Remove the stale device of a volume, its mounts and its record, and tell the controller.

    Nothing is written to the volume.

    :param volume_ids: as :func:`fenced` returned them.
    :returns: the stale device that was removed; empty when there was none, as after a boot.
    :raises AlreadyExistsError: the attachment under this name belongs to another owner.
    :raises FailedPreconditionError: the volume is attached under the name that it had before, and
        must go under that.
    """
    with flow.consumer.lock(name):
        attached = flow.attachment(name)
        if attached is not None and attached.owner != owner:
            raise AlreadyExistsError(f"the volume {name!r} that is attached here belongs to {attached.owner}, not to {owner}")
        former = next((a for a in flow.consumer.attachments()[0] if a.volume_id in volume_ids and a.name != name), None)
        if former is not None:
            raise FailedPreconditionError(
                f"volume {name!r} was taken from this host while it was fenced, and is still attached here as {former.name!r} of"
                f" {former.owner}; apply storage_volume.disconnected to that first, which removes it and writes nothing"
            )
        found = flow.consumer.discard(name)
        flow.consumer.remove_mount_points(name)
        for volume_id in volume_ids:
            # Only when all is gone: from then on this host may be given the volume again.
            flow.ask("disconnect", {"name": name, "volume_id": volume_id, **flow.owner_args(owner)})
        flow.consumer.forget(name)
        if (known := flow.known()) is not None:
            known.unfence(*volume_ids)
        log.warning("storage: volume %r was taken from this host while it was fenced; what was left of it here was removed", name)
        return (attached.device or attached.path) if attached is not None and found.changed else ""


def discard_with_entries(flow: Flow, owner: str, name: str, *volume_ids: str) -> str:
    """Remove a stale device as :func:`discard` does, and its lines in the table of file systems."""
    entries = mount_points.entries(flow, name)
    device = discard(flow, owner, name, *volume_ids)
    mount_points.remove_entries(flow, entries)
    return device
