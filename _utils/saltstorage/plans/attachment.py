"""``storage_volume.connected`` and ``disconnected``: the volume as a device of this host."""

from __future__ import annotations

from typing import Any

from .. import validate
from ..consumer.attachment import Attachment
from ..errors import AlreadyExistsError
from ..flow.flow import Connected, Flow
from . import fenced, mount
from .request import Request, ask, connect_changes, look, others_behind
from .run import Run
from .skeleton import Changes, Plan, change


def connected(flow: Flow, run: Run, request: Request) -> Plan:
    """Plan that a volume is attached here, after making sure that it exists when the request says how."""
    found = look(flow, request, run)
    if not found.changes:
        return Plan(found.comment)
    return Plan(found.comment, found.changes, lambda: connect(flow, request), ask(flow, request, found))


def disconnected(flow: Flow, name: Any, owner: Any, force: Any) -> Plan:
    """Plan that a volume is not attached here."""
    name = validate.name(name)
    owner = flow.owner(owner)
    force = validate.boolean(force, "force")
    if flow.answered("disconnect", owner, name):
        # All of it was done with a state before this one.
        return Plan("", {"path": change(None, None)}, lambda: _disconnect(flow, owner, name, force))
    attached = flow.consumer.attachment(name)
    if attached is not None and attached.owner != owner:
        raise AlreadyExistsError(
            f"the volume {name!r} that is attached here belongs to {attached.owner}; say owner: {attached.owner}", field="owner"
        )
    inventory = flow.inventory()
    volume = inventory.volume(owner, name)
    mapped = volume is not None and any(c.host == flow.minion for c in inventory.connections_of(volume))
    if (stale := fenced.plan(flow, owner, name)) is not None:
        return stale
    if attached is None and not mapped and not flow.consumer.links.target(name):
        return Plan(f"Volume {name!r} is not connected.")
    # Before anything is unmounted, so that a refusal leaves everything as it is.
    mount.refuse_in_use(flow, name)
    changes = {"path": change(_path(attached), None)}
    return Plan(
        f"Volume {name!r} would be disconnected.",
        changes,
        lambda: _disconnect(flow, owner, name, force),
        lambda: flow.ask_disconnect(owner, name, force=force, before=lambda: mount.unmount_own(flow, name)),
    )


def connect(flow: Flow, request: Request) -> tuple[Changes, str]:
    """Connect, and return the changes that were made."""
    done = flow.connect(request.owner, request.name, **request.how)
    return connect_changes(request.name, done), _told(request.name, done) + others_behind(flow, done.volume)


def _disconnect(flow: Flow, owner: str, name: str, force: bool) -> tuple[Changes, str]:
    changes, path, warnings = flow.disconnect(owner, name, force=force, before=lambda: mount.unmount_own(flow, name))
    if path:
        changes["path"] = change(path, None)
    elif not changes:
        return {}, f"Volume {name!r} is not connected."
    return changes, " ".join([f"Volume {name!r} was disconnected.", *warnings])


def _path(attached: Attachment | None) -> str | None:
    return (attached.device or attached.path or None) if attached is not None else None


def _told(name: str, done: Connected) -> str:
    parts = ["created"] if done.old is None else []
    if done.encrypted:
        parts.append("encrypted")
    if done.old is not None and (done.old.size != done.volume.size or done.lagged is not None):
        parts.append(f"grown to {done.volume.size} GiB")
    return f"Volume {name!r} was {', '.join([*parts, 'connected'])} at {done.attachment.path}."
