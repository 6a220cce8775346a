"""``storage_volume.extended``: a volume, its device and its file system have at least a size."""

from __future__ import annotations

from typing import Any

from .. import model, validate
from ..consumer.devices import mounts
from ..consumer.filesystems import resizefs
from ..errors import InvalidArgumentError, NotFoundError, OutOfRangeError
from ..flow import fencing, growth, mount_points, volumes
from ..flow.flow import Flow, check_usable
from ..model import Volume
from .mounted import GROWS, fill
from .skeleton import Changes, Plan, change
from .volumes import others_behind, refuse_shared


def extended(flow: Flow, name: Any, size: Any, exact: Any, owner: Any) -> Plan:
    """Plan that a volume has at least ``size``, and so have its device and file system here."""
    name = validate.name(name)
    if size is None:
        raise InvalidArgumentError("size is missing", field="size")
    size = validate.size_gib(size)
    exact = validate.boolean(exact, "exact")
    owner = flow.owner(owner)
    volume = flow.inventory().volume(owner, name)
    if volume is None:
        raise NotFoundError(f"volume {name!r} of {owner} does not exist; create it with storage_volume.present", field="name")
    check_usable(volume)
    asked = volume.requested or volume.size
    if asked > size and exact:
        text = f"volume {name!r} has {asked} GiB and cannot shrink to {size} GiB"
        raise OutOfRangeError(text, field="size", details={"size": [asked, size]})
    fencing.refuse_stale(flow, owner, name, "grown")
    changes = _planned(flow, volume, size)
    if not changes:
        larger = f"; it is larger than {size} GiB, and volumes do not shrink" if volume.size > size else ""
        return Plan(f"Volume {name!r} has {volume.size} GiB{larger}.")
    return Plan(f"Volume {name!r} would be grown to {max(size, volume.size)} GiB.", changes, lambda: _extend(flow, volume, size))


def _planned(flow: Flow, volume: Volume, size: int) -> Changes:
    """Return the changes that are due, after refusing a growth that this host could not follow."""
    changes: Changes = {}
    short = volume.size < size
    if short or volume.state == model.EXTENDING:
        refuse_shared(flow, volume.owner, f"volume {volume.name!r} has {volume.size} GiB; grow it on the master (salt-run storage.extend)")
        changes["size"] = change(volume.size, size)
    elif (shown := growth.device_lag(flow, volume)) is not None:
        changes["size"] = change(shown, volume.size)
    if changes:
        growth.check_can_follow(flow, volume)
    for mounted in _mounts(flow, volume):
        if short:
            # Before the volume grows: a file system that cannot follow would stay behind for good.
            resizefs.check_growable(mounted.fstype)
        follows = "size" in changes and mounted.fstype in resizefs.GROW_MOUNTED
        if follows or resizefs.can_grow(flow.status(volume.name).device, mounted.fstype, mounted.path):
            changes["filesystem"] = dict(GROWS)
    if not changes and (mine := growth.unreported(flow, volume)) is not None:
        changes["size"] = change(mine.size, volume.size)
    return changes


def _extend(flow: Flow, volume: Volume, size: int) -> tuple[Changes, str]:
    changes: Changes = {}
    if volume.size < size or volume.state == model.EXTENDING:
        old, volume = volumes.extend(flow, volume.owner, volume.name, size)
        if old.size != volume.size:
            changes["size"] = change(old.size, volume.size)
    with flow.consumer.lock(volume.name):
        shown = growth.device_lag(flow, volume)
        if shown is not None:
            growth.resize(flow, volume)
            changes.setdefault("size", change(shown, volume.size))
        for mounted in _mounts(flow, volume):
            changes |= fill(flow, flow.status(volume.name).device, mounted.fstype, mounted.path)
        if (mine := growth.report_unreported(flow, volume)) is not None:
            changes = changes or {"size": change(mine.size, volume.size)}
    if not changes:
        return {}, f"Volume {volume.name!r} has {volume.size} GiB."
    parts = {"size": "the volume", "filesystem": "its file system"}
    grown = " and ".join(parts[key] for key in changes)
    return changes, f"Volume {volume.name!r} has {volume.size} GiB; grown: {grown}.{others_behind(flow, volume)}"


def _mounts(flow: Flow, volume: Volume) -> list[mounts.Mount]:
    """Return the mount by which the file system on the volume can be grown here."""
    return mount_points.writable(flow, volume.name) if flow.attachment_of(volume) is not None else []
