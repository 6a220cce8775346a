"""``storage_snapshot.present``: a snapshot of a volume exists."""

from __future__ import annotations

from typing import Any

from .. import model, validate
from ..errors import AlreadyExistsError
from ..flow import snapshots
from ..flow.flow import Flow
from ..model import Volume
from .skeleton import Changes, Plan, change
from .snapshots import check_taking, check_volume, summary


def present(flow: Flow, name: Any, volume: Any, freeze: Any, timeout: Any) -> Plan:
    """Plan that a snapshot of a volume exists."""
    name = validate.name(name)
    freeze, timeout = check_taking(freeze, timeout)
    parent = check_volume(flow, volume)
    old = flow.inventory().snapshot(flow.minion, name)
    if old is not None and old.volume_id != parent.id:
        which = f"volume {old.volume!r}" if old.volume != parent.name else f"an earlier volume of the name {old.volume!r}"
        raise AlreadyExistsError(f"snapshot {name!r} exists and is of {which}; delete it, or choose another name", field="volume")
    if old is not None and old.state in (model.AVAILABLE, model.REVERTING) and not (freeze and old.frozen is None):
        if freeze and not old.frozen:
            text = f"snapshot {name!r} exists and was taken with the file system in use; delete it, or choose another name"
            raise AlreadyExistsError(text, field="freeze")
        return Plan(f"Snapshot {name!r} of volume {old.volume!r} is present: id {old.id}.")
    if freeze:
        snapshots.mount_point(flow, parent.name)
    changes = {name: change(None, {"volume": parent.name, "size": parent.size})}
    # A snapshot that an earlier apply began is no change of this one.
    pending = old is not None and old.state == model.CREATING
    return Plan(f"Snapshot {name!r} would be taken.", changes, lambda: _take(flow, name, parent, freeze, timeout, pending))


def _take(flow: Flow, name: str, parent: Volume, freeze: bool, timeout: float, pending: bool) -> tuple[Changes, str]:
    taken = snapshots.take(flow, name, parent.name, freezing=freeze, timeout=timeout)
    if taken.snapshot.state == model.CREATING:
        changes = {} if pending else {name: change(None, summary(taken.snapshot))}
        return changes, f"Snapshot {name!r} is being taken, and not ready yet (ready: False); the controller goes on with it."
    if not taken.new:
        return {}, f"Snapshot {name!r} is present: id {taken.snapshot.id}."
    how = ", with the file system frozen" if taken.snapshot.frozen else ""
    return {name: change(None, summary(taken.snapshot))}, f"Snapshot {name!r} of volume {parent.name!r} was taken{how}."
