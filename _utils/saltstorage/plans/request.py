"""What ``connected`` and ``mounted`` share: the request, and a look at what is there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .. import model, validate
from ..consumer.attachment import Attachment
from ..consumer.status import SIZE
from ..errors import AlreadyExistsError, DataLossError, FailedPreconditionError, InvalidArgumentError, NotFoundError
from ..flow import growing
from ..flow.batch import Ask
from ..flow.flow import Connected, Flow, check_usable
from ..model import Connection, Volume
from ..rules import refuse_barred, refuse_different, refuse_other_encryption
from ..spec import VolumeSpec
from . import dependencies, fenced, growth
from .run import Run
from .skeleton import Changes, change
from .volume import existing, key_for, planned_creation, refuse_shared, shown, source_now, written, written_changes


class Request:
    """The checked parameters that ``connected`` and ``mounted`` share.

    :param wanted: the volume is created or grown, and gets the attributes; None connects an existing one as it is.
    :param mounts: whether the state is ``mounted``.
    :param resize: whether what is smaller than it should be is grown, a file system too.
    :param passphrase: where the passphrase of an encrypted volume is; the attribute is empty when it is not to be encrypted.
    """

    def __init__(
        self,
        flow: Flow,
        name: Any,
        owner: Any,
        read_only: Any,
        *,
        wanted: VolumeSpec | None,
        mounts: bool = False,
        encrypted: Any = False,
        passphrase: Any = None,
        resize: Any = True,
    ) -> None:
        self.mounts = mounts
        self.name = validate.name(name)
        # Apart from the rest: also what the master made, and grows, has a file system here that is to follow.
        self.resize = validate.boolean(resize, "resize")
        self.read_only = validate.boolean(read_only, "read_only")
        if passphrase is not None:
            # Before anything else can fail: if this is a passphrase, it was written where others can read it.
            flow.passphrase(self.name, passphrase)
        if not validate.boolean(encrypted, "encrypted") and passphrase is not None:
            raise InvalidArgumentError("a passphrase is for encrypted volumes; say encrypted: True as well", field="passphrase")
        self.passphrase = flow.passphrase(self.name, passphrase) if encrypted else ""
        self.owner = flow.owner(owner)
        # A shared volume is as the master made it.
        self.wanted = wanted if self.owner == flow.minion else None

    @property
    def how(self) -> dict[str, Any]:
        """How the volume is to be connected, as :meth:`saltstorage.flow.flow.Flow.connect` takes it."""
        return {"wanted": self.wanted, "read_only": self.read_only, "mounts": self.mounts, "passphrase": self.passphrase}


@dataclass
class Look:
    """What a look at an attachment found.

    :ivar changes: what connecting would change; empty when there is nothing to do.
    :ivar comment: what to say of that.
    :ivar volume: the volume, when the controller was asked.
    :ivar live: whether the right device is attached already.
    :ivar lags: whether that device is smaller than the volume is, or is going to be.
    :ivar creates: whether the volume would be created.
    :ivar fresh: whether nothing is recorded of it here, so that connecting begins with one request that says all.
    """

    changes: Changes
    comment: str = ""
    volume: Volume | None = None
    live: bool = False
    lags: bool = False
    creates: bool = False
    fresh: bool = False


def look(flow: Flow, request: Request, run: Run) -> Look:
    """Compare what is attached with what is asked for."""
    name, owner, wanted = request.name, request.owner, request.wanted
    attached = flow.consumer.attachment(name)
    if attached is not None and attached.owner != owner:
        raise AlreadyExistsError(
            f"a volume {name!r} of {attached.owner} is attached here, and /dev/storage has one place for that name", field="owner"
        )
    settled = dependencies.is_settled(flow, run, wanted.source if wanted is not None else None)
    if (attached is None or flow.answered("connect", owner, name)) and settled and not run.test:
        # Nothing to compare with: the one request that connects says all there is to know, so it is not asked twice.
        return Look({"path": change(None, flow.consumer.links.path(name))}, fresh=True)
    inventory = flow.inventory()
    volume = existing(inventory, owner, name)
    stale = flow.fenced(owner, name)
    if volume is None and stale:
        raise _rid_of_stale(flow, request, stale, run.test, f"{owner} has no volume {name!r} any more")
    if volume is None:
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
        created = planned_creation(flow, run, owner, name, wanted)
        return Look(created, f"Volume {name!r} would be created and connected.", creates=True)
    if wanted is not None:
        refuse_different(wanted, volume, source_now(inventory, owner, wanted))
    refuse_other_encryption(volume, bool(request.passphrase))
    connections = inventory.connections_of(volume)
    mine = next((c for c in connections if c.host == flow.minion), None)
    elsewhere = [c for c in connections if c.host != flow.minion]
    try:
        if elsewhere and owner == flow.minion:
            hosts = ", ".join(c.host for c in elsewhere)
            raise FailedPreconditionError(f"volume {name!r} is attached to {hosts}; disconnect it there first")
        refuse_barred(volume, elsewhere, read_only=request.read_only, mounts=request.mounts or (mine is not None and mine.mounts))
    except FailedPreconditionError as error:
        if not stale:
            raise
        raise _rid_of_stale(flow, request, stale, run.test, error.message) from None
    if stale:
        text = f"Volume {name!r} was taken from this host while it was fenced; it would be removed here and connected anew."
        return Look({"path": change(attached.device if attached is not None else None, flow.consumer.links.path(name))}, text, volume)
    return _compare(flow, request, volume, attached, mine)


def ask(flow: Flow, request: Request, found: Look) -> Callable[[], Ask] | None:
    """Return what a plan has as ``ask``."""
    if not found.fresh:
        return None
    return lambda: flow.ask_connect(request.owner, request.name, **request.how)


def connect_changes(name: str, done: Connected) -> Changes:
    """Return the changes that connecting made."""
    path = done.attachment.path
    if done.old is None:
        encryption = {"encryption": "luks2"} if done.encrypted else {}
        return key_for(name, change(None, {**shown(done.volume), "path": path, **encryption}))
    changes: Changes = written_changes(done.old, done.volume)
    if done.old.size != done.volume.size:
        changes["size"] = change(done.old.size, done.volume.size)
    elif done.lagged is not None:
        # Somebody else grew the volume, and its device here only now.
        changes["size"] = change(done.lagged, done.volume.size)
    elif not done.attached and done.follows and done.connection.behind(done.volume):
        # Its device has followed, by itself or before it could be told.
        changes["size"] = change(done.connection.size, done.volume.size)
    if done.attached:
        # Re-attached, a device may have another name of the kernel's than before: that is what both are shown for.
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


def _compare(flow: Flow, request: Request, volume: Volume, attached: Attachment | None, mine: Connection | None) -> Look:
    name = request.name
    status = flow.consumer.check(name, size=volume.size)
    if status.refused:
        raise status.error(name)
    live = attached is not None and bool(attached.path)
    if attached is not None and live and attached.read_only != request.read_only:
        have, want = ("read-only", "for writing") if attached.read_only else ("for writing", "read-only")
        raise AlreadyExistsError(f"volume {name!r} is connected {have}; disconnect it before connecting it {want}", field="read_only")
    if attached is not None and live and attached.encrypted != bool(request.passphrase):
        have, want = ("encrypted", "not encrypted") if attached.encrypted else ("not encrypted", "encrypted")
        raise AlreadyExistsError(f"volume {name!r} is connected {have}, asked for is {want}; disconnect it first", field="encrypted")
    if attached is not None and live and attached.volume_id != volume.id:
        text = f"{attached.path} is attached here as volume {attached.volume_id}, but {name!r} is now {volume.id}"
        raise DataLossError(f"{text}; apply storage_volume.disconnected")
    changes: Changes = written(volume, request.wanted) if request.wanted else {}
    size = request.wanted.size if request.wanted else volume.size
    if volume.size < size:
        refuse_shared(flow, request.owner, f"volume {name!r} is grown on the master (salt-run storage.extend)")
        changes["size"] = change(volume.size, size)
    elif status.state == SIZE and attached is not None:
        changes["size"] = change(status.had(attached), volume.size)
    elif status.ok and mine is not None and mine.behind(volume) and (request.mounts or not growing.lags(flow.consumer, name)):
        # Without a mount of its own, this state lets no file system follow, and tells the controller only when none has to.
        changes["size"] = change(mine.size, volume.size)
    if not status.present:
        changes["path"] = change(attached.device if attached is not None and live else None, flow.consumer.links.path(name))
    elif mine is None or mine.state != model.CONNECTED or (attached is not None and mine.id != attached.connection_id):
        changes["mapping"] = change(None, flow.minion)
    elif request.mounts and not mine.mounts and request.owner != flow.minion:
        # It is connected, and this host has not asked yet whether it may mount.
        changes["mapping"] = change(None, flow.minion)
    if attached is not None and live and attached.passphrase != request.passphrase:
        changes["passphrase"] = change(attached.passphrase, request.passphrase)
    if not status.ok or volume.size < size:
        _refuse_locked_out(flow, request)
    there = status.present
    if volume.size < size or status.state == SIZE:
        growth.refuse_stuck(flow, volume, request.passphrase)
    text = f"would be connected at {flow.consumer.links.path(name)}" if changes else f"is connected at {status.path}"
    return Look(changes, f"Volume {name!r} {text}.", volume, live=there, lags=volume.size < size or status.state == SIZE)


def _rid_of_stale(flow: Flow, request: Request, stale: list[str], test: bool, why: str) -> FailedPreconditionError:
    """Return the error for a volume that this host, which is back, cannot have: what is left here must go, whatever the state wanted."""
    found = "What is left of it on this host is stale, and would be removed."
    if not test:
        found = fenced.discard(flow, request.owner, request.name, stale)[1]
    return FailedPreconditionError(f"{why}. {found}")


def _refuse_locked_out(flow: Flow, request: Request) -> None:
    """Refuse at once what could not be opened, or grown, in the end: its passphrase is missing, or cryptsetup is."""
    if request.passphrase:
        flow.consumer.passphrase(request.name, request.passphrase)


def others_behind(flow: Flow, volume: Volume) -> str:
    """Return what a comment says of the other hosts that have not followed a volume yet; empty when there is none."""
    hosts = flow.behind(volume)
    return f" It has grown, and not yet on {', '.join(hosts)}." if hosts else ""


def other_owner(name: str, attached: Attachment) -> AlreadyExistsError:
    """Return the error for a volume of this name that is another owner's."""
    return AlreadyExistsError(f"the volume {name!r} attached here belongs to {attached.owner}; say owner: {attached.owner}", field="owner")
