"""``storage_volume.unmounted``: the file system on the volume is not mounted, now or at boot."""

from __future__ import annotations

from typing import Any

from .. import validate
from ..flow import mount_points
from ..flow.flow import Flow
from . import stale
from .skeleton import Changes, Plan, change
from .volumes import refuse_other_owner


def unmounted(flow: Flow, name: Any, owner: Any) -> Plan:
    """Plan that a volume is not mounted, now or at boot.

    It stays attached, unless it was taken from this host.
    """
    name = validate.name(name)
    owner = flow.owner(owner)
    refuse_other_owner(name, owner, flow.attachment(name))
    paths = _paths(flow, name)
    if not paths:
        return Plan(f"Volume {name!r} is not mounted.")
    # To unmount is to write, so the controller must say first that the volume is still this host's.
    if (removal := stale.plan(flow, owner, name)) is not None:
        return removal
    changes = {"mount": change(", ".join(dict.fromkeys(paths)), None)}
    return Plan(f"Volume {name!r} would be unmounted from {', '.join(paths)}.", changes, lambda: _unmount(flow, name))


def _unmount(flow: Flow, name: str) -> tuple[Changes, str]:
    paths = _paths(flow, name)
    mount_points.unmount(flow, name, [m.path for m in mount_points.live(flow, name)])
    return {"mount": change(", ".join(paths), None)}, f"Volume {name!r} was unmounted from {', '.join(paths)}."


def _paths(flow: Flow, name: str) -> list[str]:
    """Return the paths on which a volume is mounted.

    If it is not, those of its entries in the table of file systems.
    """
    return [m.path for m in mount_points.live(flow, name)] or [e.mount_point for e in mount_points.entries(flow, name)]
