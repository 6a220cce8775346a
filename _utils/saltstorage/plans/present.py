"""``storage_volume.present``: the volume on its backend."""

from __future__ import annotations

from typing import Any

from .. import model, validate
from ..flow import growth
from ..flow.flow import Flow
from ..flow.volumes import ask_create, create
from ..model import Volume
from ..rules import refuse_different
from ..spec import VolumeSpec
from .run import Run
from .skeleton import Changes, Plan, change
from .volumes import changed_attributes, creation_changes, entry_of, existing, foretold_attributes, refuse_shared, source_now, summary


def present(flow: Flow, run: Run, name: Any, owner: Any, wanted: VolumeSpec) -> Plan:
    """Plan that a volume exists, has at least the size, and the attributes asked for."""
    name = validate.name(name)
    owner = flow.owner(owner)
    inventory = flow.inventory()
    volume = existing(inventory, owner, name)

    def apply() -> tuple[Changes, str]:
        return _create(flow, owner, name, wanted)

    if volume is None:
        changes = creation_changes(flow, run, owner, name, wanted)
        return Plan(f"Volume {name!r} would be created.", changes, apply, lambda: ask_create(flow, owner, name, wanted))
    refuse_different(wanted, volume, source_now(inventory, owner, wanted))
    if volume.size < wanted.size or volume.state == model.EXTENDING:
        refuse_shared(flow, owner, f"volume {name!r} has {volume.size} GiB; grow it on the master (salt-run storage.extend)")
        growth.check_can_follow(flow, volume)
        changes = {"size": change(volume.size, wanted.size), **foretold_attributes(volume, wanted)}
        return Plan(f"Volume {name!r} would be grown to {wanted.size} GiB.", changes, apply)
    if changes := foretold_attributes(volume, wanted):
        refuse_shared(flow, owner, f"volume {name!r} is changed on the master (salt-run storage.update)")
        text = f"{_names(changes)} of volume {name!r} would be changed."
        return Plan(text, changes, apply, lambda: ask_create(flow, owner, name, wanted))
    if growth.lags(flow, volume):
        growth.check_can_follow(flow, volume)
        return Plan(f"The device of volume {name!r} would be grown.", {"size": change(None, volume.size)}, lambda: _resize(flow, volume))
    if (mine := growth.unreported(flow, volume)) is not None:
        changes = {"size": change(mine.size, volume.size)}
        return Plan(f"The controller would be told that volume {name!r} has grown here.", changes, lambda: _report(flow, volume))
    return Plan(f"Volume {name!r} is present: {volume.size} GiB on backend {volume.backend!r}, id {volume.id}.")


def _create(flow: Flow, owner: str, name: str, wanted: VolumeSpec) -> tuple[Changes, str]:
    old, volume = create(flow, owner, name, wanted)
    if old is None:
        text = f"Volume {name!r} was created with {volume.size} GiB on backend {volume.backend!r}."
        return entry_of(name, change(None, summary(volume))), text
    if growth.lags(flow, volume):
        growth.resize(flow, volume)
    growth.report_unreported(flow, volume)
    changes = changed_attributes(old, volume)
    if old.size == volume.size:
        # Somebody else may have done it meanwhile.
        text = f"{_names(changes)} of volume {name!r} changed." if changes else f"Volume {name!r} is present."
        return changes, text
    changes["size"] = change(old.size, volume.size)
    return changes, f"Volume {name!r} was grown from {old.size} to {volume.size} GiB."


def _resize(flow: Flow, volume: Volume) -> tuple[Changes, str]:
    growth.resize(flow, volume)
    growth.report_unreported(flow, volume)
    return {"size": change(None, volume.size)}, f"The device of volume {volume.name!r} was grown to {volume.size} GiB."


def _report(flow: Flow, volume: Volume) -> tuple[Changes, str]:
    mine = growth.report_unreported(flow, volume)
    changes = {"size": change(mine.size, volume.size)} if mine is not None else {}
    return changes, f"Volume {volume.name!r} has {volume.size} GiB here, and the controller knows that."


def _names(changes: Changes) -> str:
    return ", ".join(changes).capitalize()
