"""``storage_volume.present`` and ``absent``: the volume on its backend."""

from __future__ import annotations

from typing import Any

from .. import model, validate
from ..consumer import attach
from ..consumer.flow import Flow
from ..consumer.inventory import Inventory
from ..errors import FailedPreconditionError, NotFoundError, PermissionDeniedError
from ..model import Volume
from ..wanted import Wanted
from .skeleton import Changes, Plan, change


def present(flow: Flow, name: Any, size: Any, backend: Any, source: Any, resize: Any, owner: Any) -> Plan:
    """Plan that a volume exists and is at least as large as asked."""
    name = validate.name(name)
    wanted = Wanted(size=size, backend=backend, source=source, resize=resize)
    owner = flow.owner(owner)
    inventory = flow.inventory()
    volume = existing(inventory, owner, name)
    if volume is None:
        changes = planned_creation(inventory, owner, name, wanted)
        return Plan(
            f"Volume {name!r} would be created.",
            changes,
            lambda: _create(flow, owner, name, wanted),
            lambda: flow.ask_create(owner, name, wanted),
        )
    wanted.check(volume, source_now(inventory, owner, wanted))
    if volume.size < wanted.size or volume.state == model.EXTENDING:
        refuse_shared(flow, owner, f"volume {name!r} has {volume.size} GiB; grow it on the master (salt-run storage.extend)")
        changes = {"size": change(volume.size, wanted.size)}
        return Plan(f"Volume {name!r} would be grown to {wanted.size} GiB.", changes, lambda: _create(flow, owner, name, wanted))
    if _lags(flow, volume):
        return Plan(f"The device of volume {name!r} would be grown.", {"size": change(None, volume.size)}, lambda: _resize(flow, volume))
    return Plan(f"Volume {name!r} is present: {volume.size} GiB on backend {volume.backend!r}, id {volume.id}.")


def absent(flow: Flow, name: Any, owner: Any) -> Plan:
    """Plan that a volume does not exist."""
    name = validate.name(name)
    owner = flow.owner(owner)
    inventory = flow.inventory()
    volume = inventory.volume(owner, name)
    if volume is None:
        attached = flow.consumer.attachment(name)
        if attached is not None and attached.owner == owner and attached.path:
            raise FailedPreconditionError(
                f"the controller has no volume {name!r}, but {attached.path} is still attached here; disconnect it first"
            )
        return Plan(f"Volume {name!r} is already absent.")
    refuse_shared(flow, owner, f"volume {name!r} is deleted on the master (salt-run storage.delete)")
    hosts = [c.host for c in inventory.connections_of(volume)]
    if hosts:
        raise FailedPreconditionError(f"volume {name!r} is connected to {', '.join(hosts)}; apply storage_volume.disconnected there first")
    snapshots = [s.name for s in inventory.snapshots_of(volume)]
    if snapshots:
        raise FailedPreconditionError(f"volume {name!r} has the snapshots {', '.join(map(repr, snapshots))}; delete them first")
    changes = key_for(name, change(shown(volume), None))
    return Plan(
        f"Volume {name!r} would be deleted.", changes, lambda: _delete(flow, owner, name, changes), lambda: flow.ask_delete(owner, name)
    )


# What connected and mounted use too.


def existing(inventory: Inventory, owner: str, name: str) -> Volume | None:
    """Return the volume; None also for one whose creation or deletion was cut off: it is made anew."""
    volume = inventory.volume(owner, name)
    return volume if volume is not None and volume.state in (model.AVAILABLE, model.EXTENDING) else None


def planned_creation(inventory: Inventory, owner: str, name: str, wanted: Wanted) -> Changes:
    """Return the changes of creating a volume, after refusing what the controller would refuse.

    :raises NotFoundError: the source does not exist.
    :raises StorageError: the backend is unknown, the size is below the source's, or the volume is a shared one.
    """
    if owner != validate.SHARED_OWNER:
        backend = inventory.check_backend(wanted.backend)
    else:
        raise NotFoundError(f"shared volume {name!r} does not exist, or the policy does not let this minion use it", field="name")
    if wanted.source is not None:
        source = source_now(inventory, owner, wanted)
        if source is None:
            raise NotFoundError(f"the source {wanted.source['kind']} {wanted.source['name']!r} does not exist", field="source")
        wanted.check_source(source)
    return key_for(name, change(None, {"size": wanted.size, "backend": backend}))


def source_now(inventory: Inventory, owner: str, wanted: Wanted) -> Any:
    """Return what the wanted source's name means now, or None."""
    if wanted.source is None:
        return None
    find = inventory.volume if wanted.source["kind"] == "volume" else inventory.snapshot
    return find(owner, wanted.source["name"])


def shown(volume: Volume) -> dict[str, Any]:
    """Return what ``changes`` show of a volume."""
    source = {"source": f"{volume.source['kind']} {volume.source['name']}"} if volume.source else {}
    return {"id": volume.id, "size": volume.size, "backend": volume.backend, **source}


def key_for(name: str, entry: dict[str, Any]) -> Changes:
    """Return ``changes`` with the volume's own entry; its name must not look like one of the other entries."""
    return {f"volume {name}" if name in ("size", "path", "mount", "filesystem", "fstab") else name: entry}


def refuse_shared(flow: Flow, owner: str, text: str) -> None:
    """Raise PermissionDeniedError for a shared volume: minions connect those, and the master changes them."""
    if owner != flow.minion:
        raise PermissionDeniedError(f"shared {text}", field="owner")


def _lags(flow: Flow, volume: Volume) -> bool:
    """Whether the volume is attached here, and its device does not show its size yet."""
    attached = flow.consumer.attachment(volume.name)
    if attached is None or attached.volume_id != volume.id:
        return False
    return flow.consumer.check(volume.name, size=volume.size).state == attach.SIZE


def _create(flow: Flow, owner: str, name: str, wanted: Wanted) -> tuple[Changes, str]:
    old, volume = flow.create(owner, name, wanted)
    if old is None:
        return key_for(
            name, change(None, shown(volume))
        ), f"Volume {name!r} was created with {volume.size} GiB on backend {volume.backend!r}."
    if _lags(flow, volume):
        flow.consumer.resize(name, size=volume.size)
    return {"size": change(old.size, volume.size)}, f"Volume {name!r} was grown from {old.size} to {volume.size} GiB."


def _resize(flow: Flow, volume: Volume) -> tuple[Changes, str]:
    flow.consumer.resize(volume.name, size=volume.size)
    return {"size": change(None, volume.size)}, f"The device of volume {volume.name!r} was grown to {volume.size} GiB."


def _delete(flow: Flow, owner: str, name: str, changes: Changes) -> tuple[Changes, str]:
    old, record_only = flow.delete(owner, name)
    if old is None:
        return {}, f"Volume {name!r} is already absent."
    text = f"Volume {name!r} was deleted."
    return changes, f"{text} The backend had it no more: only its record was removed." if record_only else text
