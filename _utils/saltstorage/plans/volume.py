"""``storage_volume.present``: the volume on its backend."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .. import model, validate
from ..consumer.status import SIZE
from ..errors import NotFoundError, PermissionDeniedError
from ..flow.flow import Flow, check_usable
from ..flow.inventory import Inventory
from ..model import Volume
from ..rules import refuse_different, refuse_smaller
from ..spec import ATTRIBUTES, VolumeSpec, attributes_of, differing
from . import dependencies, growth
from .run import Run
from .skeleton import Changes, Plan, change

#: Keys of changes other than a volume's name.
_KEYS = ("size", "path", "mapping", "encryption", "passphrase", "mount", "filesystem", "fstab", "retained", *ATTRIBUTES)


def present(flow: Flow, run: Run, name: Any, owner: Any, wanted: VolumeSpec) -> Plan:
    """Plan that a volume exists, is at least as large as asked, and has the attributes that are given."""
    name = validate.name(name)
    owner = flow.owner(owner)
    inventory = flow.inventory()
    volume = existing(inventory, owner, name)
    if volume is None:
        changes = planned_creation(flow, run, owner, name, wanted)
        return Plan(
            f"Volume {name!r} would be created.",
            changes,
            lambda: _create(flow, owner, name, wanted),
            lambda: flow.ask_create(owner, name, wanted),
        )
    refuse_different(wanted, volume, source_now(inventory, owner, wanted))
    if volume.size < wanted.size or volume.state == model.EXTENDING:
        refuse_shared(flow, owner, f"volume {name!r} has {volume.size} GiB; grow it on the master (salt-run storage.extend)")
        growth.refuse_stuck(flow, volume)
        changes = {"size": change(volume.size, wanted.size), **written(volume, wanted)}
        return Plan(f"Volume {name!r} would be grown to {wanted.size} GiB.", changes, lambda: _create(flow, owner, name, wanted))
    if changes := written(volume, wanted):
        refuse_shared(flow, owner, f"volume {name!r} is changed on the master (salt-run storage.update)")
        text = f"{_listed(changes)} of volume {name!r} would be changed."
        return Plan(text, changes, lambda: _create(flow, owner, name, wanted), lambda: flow.ask_create(owner, name, wanted))
    if _lags(flow, volume):
        growth.refuse_stuck(flow, volume)
        return Plan(f"The device of volume {name!r} would be grown.", {"size": change(None, volume.size)}, lambda: _resize(flow, volume))
    if (mine := growth.untold(flow, volume)) is not None:
        # It has followed, and could not say so, or did by itself.
        changes = {"size": change(mine.size, volume.size)}
        return Plan(f"The controller would be told that volume {name!r} has grown here.", changes, lambda: _tell(flow, volume))
    return Plan(f"Volume {name!r} is present: {volume.size} GiB on backend {volume.backend!r}, id {volume.id}.")


# What connected and mounted use too.


def existing(inventory: Inventory, owner: str, name: str) -> Volume | None:
    """Return the volume; None also for one whose creation or deletion was cut off: it is made anew."""
    volume = inventory.volume(owner, name)
    if volume is not None and volume.state == model.REVERTING:
        check_usable(volume)
    return volume if volume is not None and volume.state in (model.AVAILABLE, model.EXTENDING) else None


def planned_creation(flow: Flow, run: Run, owner: str, name: str, wanted: VolumeSpec) -> Changes:
    """Return the changes of creating a volume, after refusing what the controller would refuse, and a copy that would come too early.

    :raises NotFoundError: the source does not exist.
    :raises StorageError: the backend is unknown, the size is below the source's, or the volume is a shared one.
    """
    inventory = flow.inventory()
    if owner != validate.SHARED_OWNER:
        backend = inventory.check_type(wanted.type, wanted.backend)
    else:
        raise NotFoundError(f"shared volume {name!r} does not exist, or the policy does not let this minion use it", field="name")
    if wanted.source is not None:
        foretold = dependencies.check_source(flow, run, wanted.source)
        source = source_now(inventory, owner, wanted)
        if source is not None:
            refuse_smaller(wanted, source)
        elif not foretold:
            raise NotFoundError(
                f"the source {wanted.source['kind']} {wanted.source['name']!r} of {owner} does not exist; make it first", field="source"
            )
    kind = {"type": wanted.type} if wanted.type is not None else {}
    return key_for(name, change(None, {"size": wanted.size, "backend": backend, **kind, **_filled(wanted.attributes)}))


def written(volume: Volume, wanted: VolumeSpec) -> Changes:
    """Return the changes of what is written on a volume."""
    return {key: change(attributes_of(volume)[key], value) for key, value in differing(volume, wanted.attributes).items()}


def written_changes(old: Volume, now: Volume) -> Changes:
    """Return what was changed of what is written on a volume."""
    before, after = attributes_of(old), attributes_of(now)
    return {key: change(before[key], after[key]) for key in ATTRIBUTES if before[key] != after[key]}


def source_now(inventory: Inventory, owner: str, wanted: VolumeSpec) -> Any:
    """Return what the wanted source's name means now, or None."""
    if wanted.source is None:
        return None
    find = inventory.volume if wanted.source["kind"] == "volume" else inventory.snapshot
    return find(owner, wanted.source["name"])


def shown(volume: Volume) -> dict[str, Any]:
    """Return what ``changes`` show of a volume."""
    source = {"source": f"{volume.source['kind']} {volume.source['name']}"} if volume.source else {}
    kind = {"type": volume.type} if volume.type is not None else {}
    return {"id": volume.id, "size": volume.size, "backend": volume.backend, **kind, **source, **_filled(attributes_of(volume))}


def key_for(name: str, entry: dict[str, Any]) -> Changes:
    """Return ``changes`` with the volume's own entry; its name must not look like one of the other entries."""
    return {f"volume {name}" if name in _KEYS else name: entry}


def refuse_shared(flow: Flow, owner: str, text: str) -> None:
    """Raise PermissionDeniedError for a shared volume: minions connect those, and the master changes them."""
    if owner != flow.minion:
        raise PermissionDeniedError(f"shared {text}", field="owner")


def _lags(flow: Flow, volume: Volume) -> bool:
    """Whether the volume is attached here, and its device does not show its size yet."""
    attached = flow.consumer.attachment(volume.name)
    if attached is None or attached.volume_id != volume.id:
        return False
    return flow.consumer.check(volume.name, size=volume.size).state == SIZE


def _create(flow: Flow, owner: str, name: str, wanted: VolumeSpec) -> tuple[Changes, str]:
    old, volume = flow.create(owner, name, wanted)
    if old is None:
        return key_for(
            name, change(None, shown(volume))
        ), f"Volume {name!r} was created with {volume.size} GiB on backend {volume.backend!r}."
    if _lags(flow, volume):
        flow.consumer.resize(name, size=volume.size)
    growth.tell(flow, volume)
    changes = written_changes(old, volume)
    if old.size == volume.size:
        # Somebody else may have done it meanwhile.
        text = f"{_listed(changes)} of volume {name!r} changed." if changes else f"Volume {name!r} is present."
        return changes, text
    changes["size"] = change(old.size, volume.size)
    return changes, f"Volume {name!r} was grown from {old.size} to {volume.size} GiB."


def _listed(changes: Changes) -> str:
    return ", ".join(changes).capitalize()


def _filled(notes: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out what says nothing."""
    return {key: value for key, value in notes.items() if value}


def _resize(flow: Flow, volume: Volume) -> tuple[Changes, str]:
    flow.consumer.resize(volume.name, size=volume.size)
    growth.tell(flow, volume)
    return {"size": change(None, volume.size)}, f"The device of volume {volume.name!r} was grown to {volume.size} GiB."


def _tell(flow: Flow, volume: Volume) -> tuple[Changes, str]:
    mine = growth.tell(flow, volume)
    changes = {"size": change(mine.size, volume.size)} if mine is not None else {}
    return changes, f"Volume {volume.name!r} has {volume.size} GiB here, and the controller knows that."
