"""``storage_volume.extended``: a volume that exists has at least a size, its device and the file systems on it included."""

from __future__ import annotations

from typing import Any

from .. import model, validate
from ..consumer.devices import mounts
from ..consumer.filesystems import resizefs
from ..errors import InvalidArgumentError, NotFoundError, OutOfRangeError
from ..flow import growing
from ..flow.flow import Flow, check_usable
from ..model import Volume
from . import growth, mount
from .request import others_behind
from .skeleton import Changes, Plan, change
from .volume import refuse_shared


def extended(flow: Flow, name: Any, size: Any, exact: Any, owner: Any) -> Plan:
    """Plan that a volume has at least ``size``, and that its device here and the file systems mounted from it have it too."""
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
    if volume.size > size and exact:
        text = f"volume {name!r} has {volume.size} GiB and cannot shrink to {size} GiB"
        raise OutOfRangeError(text, field="size", details={"size": [volume.size, size]})
    flow.refuse_fenced(owner, name, "grown")
    short = volume.size < size
    changes: Changes = {}
    if short or volume.state == model.EXTENDING:
        refuse_shared(flow, owner, f"volume {name!r} has {volume.size} GiB; grow it on the master (salt-run storage.extend)")
        changes["size"] = change(volume.size, size)
    elif (shown := growth.lagging(flow, volume)) is not None:
        changes["size"] = change(shown, volume.size)
    if changes:
        growth.refuse_stuck(flow, volume)
    for mounted in _mounts(flow, volume):
        if short:
            # Before the volume grows: what cannot follow it would stay behind for good.
            resizefs.check_growable(mounted.fstype)
        follows = "size" in changes and mounted.fstype in resizefs.GROW_MOUNTED
        if follows or resizefs.can_grow(_device(flow, name), mounted.fstype, mounted.path):
            changes["filesystem"] = dict(mount.GROWS)
    if not changes and (mine := growth.untold(flow, volume)) is not None:
        # It has followed, and could not say so, or did by itself.
        changes["size"] = change(mine.size, volume.size)
    if not changes:
        larger = f"; it is larger than {size} GiB, and volumes do not shrink" if volume.size > size else ""
        return Plan(f"Volume {name!r} has {volume.size} GiB{larger}.")
    return Plan(f"Volume {name!r} would be grown to {max(size, volume.size)} GiB.", changes, lambda: _extend(flow, volume, size))


def _extend(flow: Flow, volume: Volume, size: int) -> tuple[Changes, str]:
    changes: Changes = {}
    if volume.size < size or volume.state == model.EXTENDING:
        old, volume = flow.extend(volume.owner, volume.name, size)
        if old.size != volume.size:
            changes["size"] = change(old.size, volume.size)
    with flow.consumer.lock(volume.name):
        shown = growth.lagging(flow, volume)
        if shown is not None:
            flow.consumer.resize(volume.name, size=volume.size)
            changes.setdefault("size", change(shown, volume.size))
        for mounted in _mounts(flow, volume):
            mount.grow(flow, _device(flow, volume.name), mounted.fstype, mounted.path, changes)
        if (mine := growth.tell(flow, volume)) is not None:
            changes = changes or {"size": change(mine.size, volume.size)}
    if not changes:
        return {}, f"Volume {volume.name!r} has {volume.size} GiB."
    parts = {"size": "the volume", "filesystem": "its file system"}
    grown = " and ".join(parts[key] for key in changes)
    return changes, f"Volume {volume.name!r} has {volume.size} GiB; grown: {grown}.{others_behind(flow, volume)}"


def _mounts(flow: Flow, volume: Volume) -> list[mounts.Mount]:
    """Return the mount by which the file system on the volume can be grown here."""
    attached = flow.consumer.attachment(volume.name)
    return growing.writable(flow.consumer, volume.name) if attached is not None and attached.volume_id == volume.id else []


def _device(flow: Flow, name: str) -> str:
    return flow.consumer.check(name).device
