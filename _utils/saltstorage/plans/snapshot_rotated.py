"""``storage_snapshot.rotated``: a series of snapshots of a volume, kept in a number."""

from __future__ import annotations

import datetime
import itertools
from collections.abc import Sequence
from typing import Any

from .. import model, validate
from ..errors import AlreadyExistsError, FailedPreconditionError, InvalidArgumentError, StorageError
from ..flow import snapshots
from ..flow.flow import Flow
from ..flow.inventory import Inventory
from ..model import Snapshot, Volume
from .skeleton import Changes, Plan, change
from .snapshots import check_taking, check_volume, summary

MAX_KEEP = 10_000
#: The time that is added to the name of a series: ``-20260131T235959Z``.
_STAMP = "-%Y%m%dT%H%M%SZ"
_STAMP_BYTES = 17


def rotated(flow: Flow, name: Any, volume: Any, keep: Any, every: Any, freeze: Any, timeout: Any) -> Plan:
    """Plan that a series has at most ``keep`` snapshots, the newest not older than ``every``."""
    name = check_series(name)
    keep, age = check_keep(keep), validate.seconds(every, "every")
    freeze, timeout = check_taking(freeze, timeout)
    if keep == 0 and flow.inventory().volume(flow.minion, validate.name(volume, "volume")) is None:
        return Plan(f"There is no volume {volume!r}, and no snapshot of it.")
    parent = check_volume(flow, volume)
    if keep == 0 and parent.protected:
        # To delete all snapshots at once is the step before a deletion, or a mistake.
        text = (
            f"volume {parent.name!r} is protected, so its snapshots are not all deleted; apply storage_volume.present with protected: False"
        )
        raise FailedPreconditionError(f"{text} first", field="keep")
    inventory = flow.inventory()
    series = sorted((s for s in inventory.snapshots_of(parent) if s.series == name), key=lambda s: s.created)
    # For the age, a snapshot in the making counts: it is there soon. A snapshot that was
    # to be frozen and was not confirmed is of no use.
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
    # For the number, a snapshot in the making does not count: it may fail yet.
    there = [s for s in good if s.state != model.CREATING]
    surplus = there[: max(0, len(there) + bool(new) - keep)]
    old = [s for s in series if s not in good or (s in surplus and s.state == model.AVAILABLE)]
    changes: Changes = {s.name: change(summary(s), None) for s in old}
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


def _rotate(flow: Flow, name: str, parent: Volume, new: str, old: Sequence[Snapshot], freeze: bool, timeout: float) -> tuple[Changes, str]:
    changes: Changes = {}
    said: list[str] = []
    if new:
        # Before any is deleted, so that there are never fewer than were asked for.
        snapshot = _take_next(flow, name, parent, new, freeze, timeout)
        changes[snapshot.name] = change(None, summary(snapshot))
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
            changes[snapshot.name] = change(summary(snapshot), None)
    if deleted:
        said.append(f"{deleted} old one{'s were' if deleted > 1 else ' was'} deleted.")
    return changes, " ".join(said)


def _take_next(flow: Flow, name: str, parent: Volume, new: str, freeze: bool, timeout: float) -> Snapshot:
    """Take the next snapshot of a series.

    It gets another name when another job took one of this name meanwhile.
    """
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
    """Return the name of a series' next snapshot.

    It has the time of this second, or of the first free second after it.

    A minion's snapshots have one space of names, and another volume may have a series of the same
    name.
    """
    stamps = (datetime.datetime.fromtimestamp(now + later, datetime.UTC).strftime(_STAMP) for later in itertools.count())
    return next(found for stamp in stamps if inventory.snapshot(minion, found := series + stamp) is None)


def _newest(good: Sequence[Snapshot]) -> str:
    if not good:
        return ""
    return datetime.datetime.fromtimestamp(good[-1].created, datetime.UTC).strftime(", the newest of %Y-%m-%dT%H:%M:%SZ")
