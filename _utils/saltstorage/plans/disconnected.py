"""``storage_volume.disconnected``: the volume is no device of this host, and not mapped to it."""

from __future__ import annotations

from typing import Any

from .. import validate
from ..flow import disconnecting, mount_points
from ..flow.flow import Flow
from . import stale
from .skeleton import Changes, Plan, change
from .volumes import refuse_other_owner


def disconnected(flow: Flow, name: Any, owner: Any, force: Any) -> Plan:
    """Plan that a volume is not attached here."""
    name = validate.name(name)
    owner = flow.owner(owner)
    force = validate.boolean(force, "force")
    if disconnecting.is_disconnected(flow, owner, name):
        # All of it was done with an earlier state of this run.
        return Plan("", {"path": change(None, None)}, lambda: _disconnect(flow, owner, name, force))
    attached = flow.attachment(name)
    refuse_other_owner(name, owner, attached)
    inventory = flow.inventory()
    volume = inventory.volume(owner, name)
    mapped = volume is not None and any(c.host == flow.minion for c in inventory.connections_of(volume))
    if (removal := stale.plan(flow, owner, name)) is not None:
        return removal
    if attached is None and not mapped and not flow.has_link(name):
        return Plan(f"Volume {name!r} is not connected.")
    # Before anything is unmounted, so that a refusal leaves everything as it is.
    mount_points.refuse_in_use(flow, name)
    path = (attached.device or attached.path or None) if attached is not None else None
    return Plan(
        f"Volume {name!r} would be disconnected.",
        {"path": change(path, None)},
        lambda: _disconnect(flow, owner, name, force),
        lambda: disconnecting.ask_disconnect(flow, owner, name, force=force, before=lambda: mount_points.unmount_own(flow, name)),
    )


def _disconnect(flow: Flow, owner: str, name: str, force: bool) -> tuple[Changes, str]:
    done = disconnecting.disconnect(flow, owner, name, force=force, before=lambda: mount_points.unmount_own(flow, name))
    changes: Changes = {"mount": change(", ".join(done.before), None)} if done.before else {}
    if done.path:
        changes["path"] = change(done.path, None)
    elif not changes:
        return {}, f"Volume {name!r} is not connected."
    return changes, " ".join([f"Volume {name!r} was disconnected.", *done.warnings])
