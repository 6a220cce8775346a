"""``storage_snapshot.present``, ``absent`` and ``rotated``."""

from __future__ import annotations

import datetime
import itertools
from collections.abc import Sequence
from typing import Any

from .. import model, validate
from ..errors import AlreadyExistsError, FailedPreconditionError, InvalidArgumentError, NotFoundError, StorageError
from ..flow import snapshots
from ..flow.flow import Flow, check_usable
from ..flow.inventory import Inventory
from ..model import Snapshot, Volume
from .skeleton import Changes, Plan, change

MAX_KEEP = 10_000
MAX_TIMEOUT = 86_400.0
#: What is added to the name of a series: ``-20260131T235959Z``.
_STAMP = "-%Y%m%dT%H%M%SZ"
_STAMP_BYTES = 17


def present(flow: Flow, name: Any, volume: Any, freeze: Any, timeout: Any) -> Plan:
    """Plan that a snapshot of a volume exists."""
    name = validate.name(name)
    freeze, timeout = _checked(freeze, timeout)
    parent = _volume(flow, volume)
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
    # One that is being taken since an earlier apply is no change of this one's.
    pending = old is not None and old.state == model.CREATING
    return Plan(f"Snapshot {name!r} would be taken.", changes, lambda: _take(flow, name, parent, freeze, timeout, pending))


def absent(flow: Flow, name: Any) -> Plan:
    """Plan that a snapshot does not exist."""
    name = validate.name(name)
    old = flow.inventory().snapshot(flow.minion, name)
    if old is None:
        return Plan(f"Snapshot {name!r} is already absent.")
    changes = {name: change(_shown(old), None)}
    return Plan(f"Snapshot {name!r} would be deleted.", changes, lambda: _delete(flow, name, changes))


def rotated(flow: Flow, name: Any, volume: Any, keep: Any, every: Any, freeze: Any, timeout: Any) -> Plan:
    """Plan that the newest snapshot of a series is not older than ``every``, and that there are no more than ``keep``."""
    name = check_series(name)
    keep, age = check_keep(keep), validate.seconds(every, "every")
    freeze, timeout = _checked(freeze, timeout)
    if keep == 0 and flow.inventory().volume(flow.minion, validate.name(volume, "volume")) is None:
        return Plan(f"There is no volume {volume!r}, and no snapshot of it.")
    parent = _volume(flow, volume)
    if keep == 0 and parent.protected:
        # All of them at once is what comes before a deletion, or a mistake.
        text = (
            f"volume {parent.name!r} is protected, so its snapshots are not all deleted; apply storage_volume.present with protected: False"
        )
        raise FailedPreconditionError(f"{text} first", field="keep")
    inventory = flow.inventory()
    series = sorted((s for s in inventory.snapshots_of(parent) if s.series == name), key=lambda s: s.created)
    # What is being taken counts for the age: it is there soon. What was to be frozen and was not confirmed is of no use.
    good = [
        s
        for s in series
        if s.state in (model.AVAILABLE, model.CREATING, model.REVERTING) and not (s.frozen is None and s.state != model.CREATING)
    ]
    now = inventory.now()
    new = ""
    # A little early is on time: a schedule's runs are never exactly as far apart as its period.
    if keep and (not good or now - good[-1].created >= age * 0.99):
        new = _free(inventory, flow.minion, name, now)
        if freeze:
            snapshots.mount_point(flow, parent.name)
    # For the number it does not count: it may fail yet.
    there = [s for s in good if s.state != model.CREATING]
    surplus = there[: max(0, len(there) + bool(new) - keep)]
    old = [s for s in series if s not in good or (s in surplus and s.state == model.AVAILABLE)]
    changes: Changes = {s.name: change(_shown(s), None) for s in old}
    if new:
        changes[new] = change(None, {"volume": parent.name, "size": parent.size})
    if not changes:
        return Plan(f"Volume {parent.name!r} has {len(good)} snapshots of the series {name!r}{_newest(good)}.")
    text = " and ".join([*([f"{new!r} would be taken"] if new else []), *([f"{len(old)} old ones would be deleted"] if old else [])])
    return Plan(f"Snapshots {name!r}: {text}.", changes, lambda: _rotate(flow, name, parent, new, old, freeze, timeout))


def check_series(value: Any) -> str:
    """Return the name of a series of snapshots, when there is room for the time behind it."""
    name = validate.name(value)
    if len(name.encode()) > validate.MAX_NAME_BYTES - _STAMP_BYTES:
        most = validate.MAX_NAME_BYTES - _STAMP_BYTES
        raise InvalidArgumentError(
            f"name is too long for a series of snapshots, whose names have the time added; at most {most} bytes", field="name"
        )
    return name


def check_keep(value: Any) -> int:
    """Return how many snapshots of a series are kept, when it is a whole number."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_KEEP:
        raise InvalidArgumentError(f"keep must be a whole number from 0 to {MAX_KEEP}, not {value!r}", field="keep")
    return value


# Within.


def _checked(freeze: Any, timeout: Any) -> tuple[bool, float]:
    seconds = validate.seconds(timeout, "timeout")
    if seconds > MAX_TIMEOUT:
        raise InvalidArgumentError(f"timeout must be at most {MAX_TIMEOUT:g} s", field="timeout")
    return validate.boolean(freeze, "freeze"), seconds


def _volume(flow: Flow, volume: Any) -> Volume:
    if volume is None:
        raise InvalidArgumentError("volume is missing; name the volume to take the snapshot of", field="volume")
    found = flow.inventory().volume(flow.minion, validate.name(volume, "volume"))
    if found is None:
        raise NotFoundError(f"volume {volume!r} of {flow.minion} does not exist; create it with storage_volume.present", field="volume")
    check_usable(found)
    return found


def _take(flow: Flow, name: str, parent: Volume, freeze: bool, timeout: float, pending: bool) -> tuple[Changes, str]:
    taken = snapshots.take(flow, name, parent.name, freezing=freeze, timeout=timeout)
    if taken.snapshot.state == model.CREATING:
        changes = {} if pending else {name: change(None, _shown(taken.snapshot))}
        return changes, f"Snapshot {name!r} is being taken, and not ready yet (ready: False); the controller goes on with it."
    if not taken.new:
        return {}, f"Snapshot {name!r} is present: id {taken.snapshot.id}."
    how = ", with the file system frozen" if taken.snapshot.frozen else ""
    return {name: change(None, _shown(taken.snapshot))}, f"Snapshot {name!r} of volume {parent.name!r} was taken{how}."


def _delete(flow: Flow, name: str, changes: Changes) -> tuple[Changes, str]:
    old, record_only = snapshots.delete(flow, name)
    if old is None:
        return {}, f"Snapshot {name!r} is already absent."
    text = f"Snapshot {name!r} was deleted."
    return changes, f"{text} The backend had it no more: only its record was removed." if record_only else text


def _rotate(flow: Flow, name: str, parent: Volume, new: str, old: Sequence[Snapshot], freeze: bool, timeout: float) -> tuple[Changes, str]:
    changes: Changes = {}
    said: list[str] = []
    if new:
        # Before any is deleted, so that there are never fewer than were asked for.
        snapshot = _take_next(flow, name, parent, new, freeze, timeout)
        changes[snapshot.name] = change(None, _shown(snapshot))
        if snapshot.state != model.AVAILABLE:
            kept = " The old ones are kept until it is: apply again." if old else ""
            return changes, f"Snapshot {snapshot.name!r} is being taken, and not ready yet (ready: False).{kept}"
        said.append(f"Snapshot {snapshot.name!r} was taken.")
    deleted = 0
    for snapshot in old:
        try:
            found, _ = snapshots.delete(flow, snapshot.name)
        except FailedPreconditionError as error:
            said.append(f"Snapshot {snapshot.name!r} stays, since it is in use: {error.message}.")
            continue
        except StorageError as error:
            raise type(error)(
                " ".join([*said, f"Snapshot {snapshot.name!r} could not be deleted: {error.message}"]), details=error.details
            ) from None
        if found is not None:
            deleted += 1
            changes[snapshot.name] = change(_shown(snapshot), None)
    if deleted:
        said.append(f"{deleted} old one{'s were' if deleted > 1 else ' was'} deleted.")
    return changes, " ".join(said)


def _take_next(flow: Flow, name: str, parent: Volume, new: str, freeze: bool, timeout: float) -> Snapshot:
    """Take the next snapshot of a series, under another name when one that another job took meanwhile has this one."""
    while True:
        try:
            return snapshots.take(flow, new, parent.name, freezing=freeze, timeout=timeout, series=name).snapshot
        except AlreadyExistsError:
            now = flow.inventory_now()
            free = _free(now, flow.minion, name, now.now())
            if free == new:
                raise
            new = free


def _free(inventory: Inventory, minion: str, series: str, now: float) -> str:
    """Return the name of a series' next snapshot: of this second, or of the next one that is free.

    A minion's snapshots have one space of names, and another volume may have a series of the same name.
    """
    stamps = (datetime.datetime.fromtimestamp(now + later, datetime.UTC).strftime(_STAMP) for later in itertools.count())
    return next(found for stamp in stamps if inventory.snapshot(minion, found := series + stamp) is None)


def _shown(snapshot: Snapshot) -> dict[str, Any]:
    frozen = {"frozen": True} if snapshot.frozen else {}
    return {"id": snapshot.id, "volume": snapshot.volume, "size": snapshot.size, **frozen}


def _newest(good: Sequence[Snapshot]) -> str:
    if not good:
        return ""
    return datetime.datetime.fromtimestamp(good[-1].created, datetime.UTC).strftime(", the newest of %Y-%m-%dT%H:%M:%SZ")
