"""``storage_volume.connected``: the volume as a device of this host.

``mounted`` begins with the same.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass

from .. import model
from ..consumer.attachment import Attachment
from ..consumer.status import SIZE, Status
from ..errors import AlreadyExistsError, DataLossError, FailedPreconditionError, NotFoundError
from ..flow import connecting, fencing, growth
from ..flow.batch import Ask
from ..flow.connecting import Connected
from ..flow.flow import Flow, check_usable
from ..model import Connection, Volume
from ..rules import refuse_barred, refuse_different, refuse_other_encryption
from . import dependencies, stale
from .request import Request
from .run import Run
from .skeleton import Changes, Plan, change
from .volumes import (
    changed_attributes,
    creation_changes,
    entry_of,
    existing,
    foretold_attributes,
    others_behind,
    refuse_shared,
    source_now,
    summary,
)


class Found(enum.Enum):
    """The situation of a volume on this host."""

    #: This host has no record, and the controller was not asked: the request that connects brings
    #: all there is to know.
    UNKNOWN = enum.auto()
    #: The volume does not exist, and would be created.
    MISSING = enum.auto()
    #: The volume exists, and its device is not here, or is stale.
    DETACHED = enum.auto()
    #: The right device is here; its size may differ.
    ATTACHED = enum.auto()


@dataclass(frozen=True)
class Look:
    """The result of a look at a volume.

    :ivar found: the situation.
    :ivar changes: the changes that connecting would make; empty when there is nothing to do.
    :ivar comment: a sentence on them.
    :ivar volume: the volume, when the controller was asked and has it.
    :ivar lags: whether the device is smaller than the volume is, or is going to be.
    """

    found: Found
    changes: Changes
    comment: str = ""
    volume: Volume | None = None
    lags: bool = False


def connected(flow: Flow, run: Run, request: Request) -> Plan:
    """Plan that a volume is attached here. It is created or grown first if asked for."""
    found = look(flow, run, request)
    if not found.changes:
        return Plan(found.comment)
    return Plan(found.comment, found.changes, lambda: _connect(flow, request), ask(flow, request, found))


def look(flow: Flow, run: Run, request: Request) -> Look:
    """Compare the attachment of a volume with the request."""
    name, owner, wanted = request.name, request.owner, request.wanted
    attached = flow.attachment(name)
    if attached is not None and attached.owner != owner:
        raise AlreadyExistsError(
            f"a volume {name!r} of {attached.owner} is attached here, and /dev/storage has one place for that name", field="owner"
        )
    asked = attached is None or flow.together.answered("connect", owner, name)
    if asked and not run.test and dependencies.is_settled(flow, run, wanted.source if wanted is not None else None):
        # There is nothing to compare with. The one request that connects brings all there is to
        # know.
        return Look(Found.UNKNOWN, {"path": change(None, flow.link(name))})
    inventory = flow.inventory()
    volume = existing(inventory, owner, name)
    fenced = fencing.fenced(flow, owner, name)
    if volume is None:
        if fenced:
            raise _discard_stale(flow, request, fenced, run.test, f"{owner} has no volume {name!r} any more")
        return _look_at_missing(flow, run, request, attached)
    if wanted is not None:
        refuse_different(wanted, volume, source_now(inventory, owner, wanted))
    refuse_other_encryption(volume, bool(request.passphrase))
    connections = inventory.connections_of(volume)
    mine = next((c for c in connections if c.host == flow.minion), None)
    try:
        _refuse_elsewhere(flow, request, volume, connections, mine)
    except FailedPreconditionError as error:
        if not fenced:
            raise
        raise _discard_stale(flow, request, fenced, run.test, error.message) from None
    if fenced:
        text = f"Volume {name!r} was taken from this host while it was fenced; it would be removed here and connected anew."
        changes = {"path": change(attached.device if attached is not None else None, flow.link(name))}
        return Look(Found.DETACHED, changes, text, volume)
    return _compare(flow, request, volume, attached, mine)


def ask(flow: Flow, request: Request, found: Look) -> Callable[[], Ask] | None:
    """Return the ``ask`` of a plan."""
    if found.found != Found.UNKNOWN:
        return None
    return lambda: connecting.ask_connect(flow, request.owner, request.name, request.how)


def connect_changes(name: str, done: Connected) -> Changes:
    """Return the changes that connecting made."""
    path = done.attachment.path
    if done.old is None:
        encryption = {"encryption": "luks2"} if done.encrypted else {}
        return entry_of(name, change(None, {**summary(done.volume), "path": path, **encryption}))
    changes: Changes = changed_attributes(done.old, done.volume)
    if done.old.size != done.volume.size:
        changes["size"] = change(done.old.size, done.volume.size)
    elif done.lagged is not None:
        # Somebody else grew the volume, and its device here only now.
        changes["size"] = change(done.lagged, done.volume.size)
    elif not done.attached and done.follows and done.connection.behind(done.volume):
        # An unreported growth was reported.
        changes["size"] = change(done.connection.size, done.volume.size)
    if done.attached:
        # Re-attached, a device may have another name of the kernel's than before, so both are
        # shown.
        old = done.before.device if done.before is not None and done.before.path else None
        moved = old is not None and old != done.attachment.device
        changes["path"] = change(old, done.attachment.device) if moved else change(None, path)
    if done.encrypted:
        changes["encryption"] = change(None, "luks2")
    if done.before is not None and done.before.passphrase not in ("", done.attachment.passphrase):
        changes["passphrase"] = change(done.before.passphrase, done.attachment.passphrase)
    if done.new and not changes:
        changes["mapping"] = change(None, done.attachment.connection_id)
    return changes


def _connect(flow: Flow, request: Request) -> tuple[Changes, str]:
    name = request.name
    done = connecting.connect(flow, request.owner, name, request.how)
    parts = ["created"] if done.old is None else []
    if done.encrypted:
        parts.append("encrypted")
    if done.old is not None and (done.old.size != done.volume.size or done.lagged is not None):
        parts.append(f"grown to {done.volume.size} GiB")
    text = f"Volume {name!r} was {', '.join([*parts, 'connected'])} at {done.attachment.path}."
    return connect_changes(name, done), text + others_behind(flow, done.volume)


def _look_at_missing(flow: Flow, run: Run, request: Request, attached: Attachment | None) -> Look:
    """Plan to create a volume that the controller does not have."""
    name, owner, wanted, inventory = request.name, request.owner, request.wanted, flow.inventory()
    if wanted is None:
        half = inventory.volume(owner, name)
        if half is not None:
            check_usable(half)
        raise NotFoundError(f"volume {name!r} of {owner} does not exist; give its size to have it created", field="name")
    if attached is not None and attached.path:
        raise DataLossError(
            f"{attached.path} is attached here as volume {attached.volume_id}, which the controller has no more; "
            "apply storage_volume.disconnected before a new one is created"
        )
    source = source_now(inventory, owner, wanted)
    if source is not None:
        refuse_other_encryption(source, bool(request.passphrase))
    _refuse_locked_out(flow, request)
    changes = creation_changes(flow, run, owner, name, wanted)
    return Look(Found.MISSING, changes, f"Volume {name!r} would be created and connected.")


def _refuse_elsewhere(flow: Flow, request: Request, volume: Volume, connections: list[Connection], mine: Connection | None) -> None:
    """Refuse a volume that another host uses in a way that excludes this one."""
    elsewhere = [c for c in connections if c.host != flow.minion]
    if elsewhere and request.owner == flow.minion:
        hosts = ", ".join(c.host for c in elsewhere)
        raise FailedPreconditionError(f"volume {volume.name!r} is attached to {hosts}; disconnect it there first")
    refuse_barred(volume, elsewhere, read_only=request.read_only, mounts=request.mounts or (mine is not None and mine.mounts))


def _compare(flow: Flow, request: Request, volume: Volume, attached: Attachment | None, mine: Connection | None) -> Look:
    name = request.name
    status = flow.status(name, size=volume.size)
    if status.refused:
        raise status.error(name)
    live = attached if attached is not None and attached.path else None
    if live is not None:
        _refuse_otherwise_attached(request, volume, live)
    size = request.wanted.size if request.wanted else volume.size
    grows = volume.size < size
    if grows:
        refuse_shared(flow, request.owner, f"volume {name!r} is grown on the master (salt-run storage.extend)")
    changes: Changes = foretold_attributes(volume, request.wanted) if request.wanted else {}
    if (before := _size_before(flow, request, volume, attached, mine, status)) is not None:
        changes["size"] = change(before, max(size, volume.size))
    if not status.present:
        changes["path"] = change(live.device if live is not None else None, flow.link(name))
    elif mine is None or mine.state != model.CONNECTED or (attached is not None and mine.id != attached.connection_id):
        changes["mapping"] = change(None, flow.minion)
    elif request.mounts and not mine.mounts and request.owner != flow.minion:
        # It is connected, and this host has not asked yet whether it may mount.
        changes["mapping"] = change(None, flow.minion)
    if live is not None and live.passphrase != request.passphrase:
        changes["passphrase"] = change(live.passphrase, request.passphrase)
    lags = grows or status.state == SIZE
    if lags or not status.ok:
        _refuse_locked_out(flow, request)
    if lags:
        growth.check_can_follow(flow, volume, request.passphrase)
    text = f"would be connected at {flow.link(name)}" if changes else f"is connected at {status.path}"
    found = Found.ATTACHED if status.present else Found.DETACHED
    return Look(found, changes, f"Volume {name!r} {text}.", volume, lags=lags)


def _size_before(
    flow: Flow, request: Request, volume: Volume, attached: Attachment | None, mine: Connection | None, status: Status
) -> int | None:
    """Return the GiB from which a volume or its device would grow, or its growth be reported.

    None when none of these is due.
    """
    if request.wanted is not None and volume.size < request.wanted.size:
        return volume.size
    if status.state == SIZE and attached is not None:
        return status.used_size(attached)
    if status.ok and mine is not None and mine.behind(volume) and (request.mounts or not growth.file_system_lags(flow, request.name)):
        # ``connected`` lets no file system grow, so it reports a growth only when none has to.
        return mine.size
    return None


def _refuse_otherwise_attached(request: Request, volume: Volume, live: Attachment) -> None:
    """Refuse a request that needs the volume detached first."""
    name = request.name
    if live.read_only != request.read_only:
        have, want = ("read-only", "for writing") if live.read_only else ("for writing", "read-only")
        raise AlreadyExistsError(f"volume {name!r} is connected {have}; disconnect it before connecting it {want}", field="read_only")
    if live.encrypted != bool(request.passphrase):
        have, want = ("encrypted", "not encrypted") if live.encrypted else ("not encrypted", "encrypted")
        raise AlreadyExistsError(f"volume {name!r} is connected {have}, asked for is {want}; disconnect it first", field="encrypted")
    if live.volume_id != volume.id:
        text = f"{live.path} is attached here as volume {live.volume_id}, but {name!r} is now {volume.id}"
        raise DataLossError(f"{text}; apply storage_volume.disconnected")


def _discard_stale(flow: Flow, request: Request, fenced: list[str], test: bool, why: str) -> FailedPreconditionError:
    """Remove this host's stale device of the volume, and return the error that says so.

    A dry run removes nothing.
    """
    text = "What is left of it on this host is stale, and would be removed."
    if not test:
        text = stale.discard(flow, request.owner, request.name, fenced)[1]
    return FailedPreconditionError(f"{why}. {text}")


def _refuse_locked_out(flow: Flow, request: Request) -> None:
    """Refuse at once an encrypted volume when its passphrase or cryptsetup is missing."""
    if request.passphrase:
        flow.consumer.passphrase(request.name, request.passphrase)
