"""``storage_volume.absent``: all that forbids the deletion is found before anything changes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from .. import validate
from ..errors import FailedPreconditionError, StorageError, UnimplementedError
from ..flow import fencing, volumes
from ..flow.flow import Flow
from ..model import Volume
from ..rules import refuse_protected, retains
from . import dependencies
from .disconnected import disconnected
from .run import Run
from .skeleton import Changes, Plan, change
from .snapshot_rotated import check_series, rotated
from .volumes import entry_of, refuse_shared, summary

#: A step of the deletion; it returns the changes and a comment.
Step = Callable[[], tuple[Changes, str]]


def absent(flow: Flow, run: Run, name: Any, owner: Any, retain: Any = None, disconnect: Any = False, series: Any = None) -> Plan:
    """Plan that a volume does not exist.

    :param retain: leave its data on the backend; None: as recorded with the volume.
    :param disconnect: disconnect it from this host first.
    :param series: the snapshots of this series are deleted with it.
    """
    name = validate.name(name)
    retain = None if retain is None else validate.boolean(retain, "retain")
    disconnect = validate.boolean(disconnect, "disconnect")
    series = None if series is None else check_series(series)
    owner = flow.owner(owner)
    inventory = flow.inventory()
    volume = inventory.volume(owner, name)
    if volume is None:
        return _gone(flow, name, owner, disconnect)
    refuse_shared(flow, owner, f"volume {name!r} is deleted on the master (salt-run storage.delete)")
    refuse_protected(volume)
    dependencies.check_copies(flow, run, volume)
    if not disconnect:
        fencing.refuse_stale(flow, owner, name, "deleted")
    hosts = [c.host for c in inventory.connections_of(volume) if not (disconnect and c.host == flow.minion)]
    if hosts:
        raise FailedPreconditionError(f"volume {name!r} is connected to {', '.join(hosts)}; apply storage_volume.disconnected there first")
    snapshots = inventory.snapshots_of(volume)
    others = [s.name for s in snapshots if series is None or s.series != series]
    if others:
        raise FailedPreconditionError(f"volume {name!r} has the snapshots {', '.join(map(repr, others))}; delete them first")
    stays = retains(volume, retain, flow.minion, may=inventory.may_retain)
    changes = entry_of(name, change(summary(volume), None))
    if stays:
        if inventory.backends.get(volume.backend, {}).get("retains") is False:
            raise UnimplementedError(f"backend {volume.backend!r} cannot let go of volumes without deleting them", field="retain")
        changes["retained"] = change(None, {"backend": volume.backend})
    # The steps that come before. The first one refuses a volume that is in use.
    before = [disconnected(flow, name, owner, False)] if disconnect else []
    before += [rotated(flow, series, name, 0, "1d", False, 60)] if snapshots else []
    steps = [(plan.apply, plan.changes) for plan in before if plan.apply is not None]
    would = f"let go of; its data would stay on backend {volume.backend!r}" if stays else "deleted"
    return Plan(
        f"Volume {name!r} would be {would}.",
        {key: entry for found in (*(found for _, found in steps), changes) for key, entry in found.items()},
        lambda: _after([apply for apply, _ in steps], lambda: _delete(flow, volume, retain)),
        None if steps else lambda: volumes.ask_delete(flow, owner, name, retain),
    )


def _gone(flow: Flow, name: str, owner: str, disconnect: bool) -> Plan:
    """Plan for a volume that the controller does not have.

    Its device may still be attached here.
    """
    if disconnect:
        before = disconnected(flow, name, owner, False)
        if before.apply is not None:
            return before
    attached = flow.attachment(name)
    if attached is not None and attached.owner == owner and attached.path:
        raise FailedPreconditionError(
            f"the controller has no volume {name!r}, but {attached.path} is still attached here; disconnect it first"
        )
    return Plan(f"Volume {name!r} is already absent.")


def _after(steps: Sequence[Step], last: Step) -> tuple[Changes, str]:
    """Carry out the steps.

    A failed state has no changes to show, so its comment names the steps that were done.
    """
    changes: Changes = {}
    said: list[str] = []
    for step in (*steps, last):
        try:
            more, text = step()
        except StorageError as error:
            raise type(error)(" ".join([*said, error.message]), field=error.field, details=error.details) from None
        changes |= more
        said.append(text)
    return changes, " ".join(said)


def _delete(flow: Flow, volume: Volume, retain: bool | None) -> tuple[Changes, str]:
    name = volume.name
    reply = volumes.delete(flow, volume.owner, name, retain)
    if not reply["old"]:
        return {}, f"Volume {name!r} is already absent."
    changes = entry_of(name, change(summary(Volume.from_wire(reply["old"])), None))
    if (kept := reply["retained"]) is not None:
        changes["retained"] = change(None, {"backend": volume.backend, **kept})
        called = f" as {kept['array_name']!r}" if kept["array_name"] else ""
        text = f"Volume {name!r} was let go of; its data stays on backend {volume.backend!r}{called}."
        return changes, f"{text} On the master, this takes it over again: {kept['take_over']}"
    text = f"Volume {name!r} was deleted."
    return changes, f"{text} The backend had it no more: only its record was removed." if reply["record_only"] else text
