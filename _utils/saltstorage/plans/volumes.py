"""The common part of the plans for volumes: ``changes``, creation, and refusals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .. import model, validate
from ..consumer.attachment import Attachment
from ..errors import AlreadyExistsError, NotFoundError, PermissionDeniedError
from ..flow import growth
from ..flow.flow import Flow, check_usable
from ..flow.inventory import Inventory
from ..model import Snapshot, Volume
from ..rules import refuse_smaller
from ..spec import ATTRIBUTES, VolumeSpec, attributes_of, differing
from . import dependencies
from .run import Run
from .skeleton import Changes, change

#: Keys of changes other than a volume's name.
_KEYS = ("size", "path", "mapping", "encryption", "passphrase", "mount", "filesystem", "fstab", "retained", *ATTRIBUTES)


def existing(inventory: Inventory, owner: str, name: str) -> Volume | None:
    """Return a volume.

    None also when its creation or deletion was cut off, since it is then made anew.
    """
    volume = inventory.volume(owner, name)
    if volume is not None and volume.state == model.REVERTING:
        check_usable(volume)
    return volume if volume is not None and volume.state in (model.AVAILABLE, model.EXTENDING) else None


def creation_changes(flow: Flow, run: Run, owner: str, name: str, wanted: VolumeSpec) -> Changes:
    """Return the changes of creating a volume, after refusing all that would fail.

    That is all that the controller would refuse, and a copy that would come too early.

    :raises NotFoundError: the source does not exist.
    :raises StorageError: the backend is unknown, the size is below the source's, or the volume is
        a shared one.
    """
    inventory = flow.inventory()
    if owner == validate.SHARED_OWNER:
        raise NotFoundError(f"shared volume {name!r} does not exist, or the policy does not let this minion use it", field="name")
    backend = inventory.check_type(wanted.type, wanted.backend)
    if wanted.source is not None:
        foretold = dependencies.check_source(flow, run, wanted.source)
        source = source_now(inventory, owner, wanted)
        if source is not None:
            refuse_smaller(wanted, source)
        elif not foretold:
            raise NotFoundError(
                f"the source {wanted.source['kind']} {wanted.source['name']!r} of {owner} does not exist; make it first", field="source"
            )
    kind = {"type": wanted.type} if wanted.type is not None else {}
    return entry_of(name, change(None, {"size": wanted.size, "backend": backend, **kind, **_without_empty(wanted.attributes)}))


def foretold_attributes(volume: Volume, wanted: VolumeSpec) -> Changes:
    """Return the changes of the attributes that a volume does not have yet."""
    return {key: change(attributes_of(volume)[key], value) for key, value in differing(volume, wanted.attributes).items()}


def changed_attributes(old: Volume, now: Volume) -> Changes:
    """Return the changes of the attributes between two states of a volume."""
    before, after = attributes_of(old), attributes_of(now)
    return {key: change(before[key], after[key]) for key in ATTRIBUTES if before[key] != after[key]}


def source_now(inventory: Inventory, owner: str, wanted: VolumeSpec) -> Volume | Snapshot | None:
    """Return the volume or snapshot that has the name of the wanted source now, or None."""
    if wanted.source is None:
        return None
    find = inventory.volume if wanted.source["kind"] == "volume" else inventory.snapshot
    return find(owner, wanted.source["name"])


def summary(volume: Volume) -> dict[str, Any]:
    """Return what ``changes`` show of a volume."""
    source = {"source": f"{volume.source['kind']} {volume.source['name']}"} if volume.source else {}
    kind = {"type": volume.type} if volume.type is not None else {}
    attributes = _without_empty(attributes_of(volume))
    return {"id": volume.id, "size": volume.size, "backend": volume.backend, **kind, **source, **attributes}


def entry_of(name: str, entry: dict[str, Any]) -> Changes:
    """Return ``changes`` with the volume's own entry; its name must not look like another entry."""
    return {f"volume {name}" if name in _KEYS else name: entry}


def refuse_shared(flow: Flow, owner: str, text: str) -> None:
    """Raise PermissionDeniedError for a shared volume: only the master changes those."""
    if owner != flow.minion:
        raise PermissionDeniedError(f"shared {text}", field="owner")


def refuse_other_owner(name: str, owner: str, attached: Attachment | None) -> None:
    """Raise AlreadyExistsError when another owner's volume is attached here under a name."""
    if attached is not None and attached.owner != owner:
        raise AlreadyExistsError(
            f"the volume {name!r} that is attached here belongs to {attached.owner}; say owner: {attached.owner}", field="owner"
        )


def others_behind(flow: Flow, volume: Volume) -> str:
    """Return a sentence for a comment on the other hosts that have not followed a volume yet.

    Empty when there is none.
    """
    hosts = growth.hosts_behind(flow, volume)
    return f" It has grown, and not yet on {', '.join(hosts)}." if hosts else ""


def _without_empty(attributes: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in attributes.items() if value}
