"""Snapshots of this host's volumes, with the file system frozen when that is asked for."""

from __future__ import annotations

import logging
import os
import time
from dataclasses import dataclass

from .. import model
from ..consumer.devices import mounts
from ..consumer.filesystems import freeze
from ..errors import AbortedError, DeadlineExceededError, FailedPreconditionError, StorageError
from ..model import Snapshot, Volume
from .fencing import refuse_stale
from .flow import Flow

log = logging.getLogger(__name__)

#: Seconds to wait for a snapshot, and to hold a file system frozen, at most.
TIMEOUT = 60.0


@dataclass(frozen=True)
class Taken:
    """The result of taking a snapshot.

    :ivar snapshot: the snapshot as it is now; its state is ``creating`` while the controller still
        works on it.
    :ivar new: whether the snapshot was taken now.
    """

    snapshot: Snapshot
    new: bool


def take(flow: Flow, name: str, volume: str, *, freezing: bool = False, timeout: float = TIMEOUT, series: str = "") -> Taken:
    """Make sure that a snapshot of this minion's volume exists.

    :param freezing: freeze the mounted file system meanwhile. If that is not possible, no snapshot
        is taken; if the file system thaws too early, the snapshot is removed.
    :param timeout: longest time to wait, and to freeze, in seconds. The controller finishes a
        snapshot that takes longer, unless it was to be frozen.
    :param series: the series of the snapshot; see the state ``storage_snapshot.rotated``.
    :raises StorageError: as the controller's operation and :func:`.freeze.frozen` say.
    """
    args = {"name": name, "volume": volume, "series": series}
    if freezing:
        return _take_frozen(flow, args, timeout)
    try:
        reply = flow.ask("snapshot_create", args, timeout=timeout)
    except (DeadlineExceededError, AbortedError):
        now = flow.inventory_now().snapshot(flow.minion, name)
        if now is None or now.state != model.CREATING:
            raise
        flow.put(now)
        return Taken(now, new=True)
    return _taken(flow, reply)


def delete(flow: Flow, name: str) -> tuple[Snapshot | None, bool]:
    """Delete a snapshot; return it as it was, and whether only its record was left."""
    reply = flow.ask("snapshot_delete", {"name": name})
    old = Snapshot.from_wire(reply["old"]) if reply["old"] else None
    if old is not None:
        flow.drop(old)
    return old, bool(reply["record_only"])


def revert(flow: Flow, name: str, *, confirm: bool) -> tuple[Volume, Snapshot]:
    """Set a volume that is not connected back to its latest snapshot.

    Return both as they are now.
    """
    reply = flow.ask("snapshot_revert", {"name": name, "confirm": confirm})
    return Volume.from_wire(reply["volume"]), Snapshot.from_wire(reply["snapshot"])


def mount_point(flow: Flow, volume: str) -> str:
    """Return the mount point by which the file system on an attached volume can be frozen.

    :raises FailedPreconditionError: the volume is not mounted here.
    """
    status = flow.status(volume)
    if status.refused:
        raise status.error(volume)
    found = mounts.of_device(status.device) if status.device and os.path.exists(status.device) else []
    path = freeze.mount_point(found)
    if path is None:
        raise FailedPreconditionError(
            f"volume {volume!r} is not mounted here, so there is no file system to freeze; mount it, or take the snapshot without freeze",
            field="freeze",
        )
    return path


def _take_frozen(flow: Flow, args: dict[str, str], timeout: float) -> Taken:
    # Locked, so that nobody unmounts or detaches it meanwhile.
    with flow.consumer.lock(args["volume"]):
        path = mount_point(flow, args["volume"])
        # To freeze a file system is to write its cached data.
        refuse_stale(flow, flow.minion, args["volume"], "frozen")
        attached = flow.attachment(args["volume"])
        # A controller that begins with this run, or an hour ago, loads the backend now: not while
        # writers wait.
        ready = flow.ask("snapshot_ready", {"volume": args["volume"]})
        ahead = ready["time"] - time.monotonic()
        try:
            with freeze.frozen([path], seconds=timeout, patience=flow.consumer.config.step_timeout) as hold:
                # Not tried again: writers wait.
                asked = {**args, "frozen": True, "until": ahead + time.monotonic() + timeout}
                reply = flow.ask("snapshot_create", asked, timeout=timeout, retry=False)
                held = hold.thaw()
        except DeadlineExceededError as error:
            if not error.answered:
                _discard_unheard(flow, args["name"])
            raise
        taken = _taken(flow, reply)
        if not taken.new and taken.snapshot.frozen:
            return taken
        if attached is None or taken.snapshot.volume_id != attached.volume_id or attached.owner != flow.minion:
            _discard(flow, taken.snapshot)
            raise FailedPreconditionError(
                f"what is attached here as {args['volume']!r} is not the volume that the controller has by that name; no snapshot was kept"
            )
        if not held:
            _discard(flow, taken.snapshot)
            raise DeadlineExceededError(
                f"the snapshot took longer than {timeout:g} s, so that the file system on {path} was thawed before it was taken; it is not"
                " kept. Raise timeout, or take it without freeze",
                field="timeout",
            )
        reply = flow.ask("snapshot_mark_frozen", {"name": taken.snapshot.name, "id": taken.snapshot.id})
        snapshot = Snapshot.from_wire(reply["snapshot"])
        flow.put(snapshot)
        return Taken(snapshot, new=True)


def _taken(flow: Flow, reply: dict[str, object]) -> Taken:
    snapshot = Snapshot.from_wire(reply["snapshot"])  # type: ignore[arg-type]
    flow.put(snapshot)
    return Taken(snapshot, new=reply["old"] is None)


def _discard_unheard(flow: Flow, name: str) -> None:
    """Delete a snapshot that was taken in time, but whose answer came too late.

    The controller removes one in the making.
    """
    try:
        found = flow.inventory_now().snapshot(flow.minion, name)
    except StorageError as error:
        log.warning("storage: whether there is a snapshot %r that was not taken frozen is not known: %s", name, error)
        return
    if found is not None and found.state == model.AVAILABLE and found.frozen is None:
        _discard(flow, found)


def _discard(flow: Flow, snapshot: Snapshot) -> None:
    """Delete a snapshot that is of no use.

    If it stays, its record says that it was not frozen, and the next apply replaces it.
    """
    try:
        delete(flow, snapshot.name)
    except StorageError as error:
        log.warning("storage: the snapshot %s was not taken with its file system frozen, and could not be removed: %s", snapshot.id, error)
