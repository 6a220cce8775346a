"""The parts that the controller's operations share: configuration, catalog, locks and backends,
and the rights of a caller.
"""

from __future__ import annotations

import dataclasses
import time
import uuid
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from ... import validate
from ...errors import AbortedError, InvalidArgumentError, NotFoundError, PermissionDeniedError, UnimplementedError
from ...model import Snapshot, Volume
from ...providers.base import Capability, Provider, ProviderSnapshot, ProviderVolume
from ...providers.initiators import MAX_ITEMS
from ..access.config import ControllerConfig, TypeEntry
from ..access.locks import Locks, volume_key
from ..access.policy import Rule
from ..catalog.catalog import Catalog
from .backends import Backends


@dataclass(frozen=True)
class Caller:
    """The caller of an operation: a minion, as its signature proved, or None for the
    administrator, who runs runners on the master.
    """

    minion: str | None = None

    @property
    def admin(self) -> bool:
        """Whether the caller is the administrator on the master."""
        return self.minion is None

    def __str__(self) -> str:
        return self.minion or "the master's administrator"


@dataclass(frozen=True)
class Core:
    """The parts of one controller."""

    config: ControllerConfig
    catalog: Catalog
    locks: Locks
    backends: Backends

    def rule(self, caller: Caller) -> Rule:
        """Return the policy's rule for the caller; the administrator may do everything."""
        return Rule(shared=("*",)) if caller.minion is None else self.config.policy.rule(caller.minion)

    def owner(self, caller: Caller, owner: str | None, name: str, *, change: bool, release: bool = False) -> str:
        """Return the owner of the volume that the caller means, after checking the caller's rights.

        :param owner: as written; None means the caller itself.
        :param change: the volume itself is changed or deleted, not only connected.
        :param release: the caller only gives up a connection, which no policy forbids: a change
            of the policy must not keep volumes mapped.
        :raises PermissionDeniedError: the volume belongs to another minion, or is shared and the
            policy does not allow this.
        """
        rule = Rule() if release else self.rule(caller)
        if owner is None:
            if caller.minion is None:
                raise InvalidArgumentError("name the owner: the minion's id, or 'shared'", field="owner")
            return caller.minion
        if caller.admin or owner == caller.minion:
            return owner
        if owner != validate.SHARED_OWNER:
            raise PermissionDeniedError(f"{caller} may not use volumes of {owner}", field="owner")
        if release:
            return validate.SHARED_OWNER
        if not rule.may_share(name):
            raise PermissionDeniedError(f"the policy does not let {caller} use the shared volume {name!r}", field="name")
        if change:
            raise PermissionDeniedError(
                f"shared volumes are changed on the master, with salt-run; {caller} may connect {name!r}", field="owner"
            )
        return validate.SHARED_OWNER

    def volume(self, owner: str, name: str) -> Volume:
        """Return a volume of the catalog.

        :raises NotFoundError: there is no such volume.
        """
        found = self.catalog.volume(owner, name)
        if found is None:
            raise NotFoundError(f"volume {name!r} of {owner} does not exist; create it with storage_volume.present", field="name")
        return found

    def provider(self, backend: str) -> Provider:
        """Return the loaded provider of a backend."""
        return self.backends.provider(backend)

    def held(self, caller: Caller, doing: str, *volumes: tuple[str, str]) -> AbstractContextManager[None]:
        """Hold the locks of volumes, given as ``(owner, name)``."""
        keys = [volume_key(owner, name) for owner, name in volumes]
        names = ", ".join(repr(name) for _, name in volumes)
        return self.locks.held(*keys, why=f"{doing} of {names}, asked for by {caller} at {time.strftime('%H:%M:%S')},")


def require(provider: Provider, capability: Capability, backend: str, doing: str) -> None:
    """Raise UnimplementedError unless the backend has the capability."""
    if capability not in provider.capabilities():
        raise UnimplementedError(f"backend {backend!r} cannot {doing}")


def refuse_renamed(held: str, volume: str) -> None:
    """Refuse to go on under the lock of a name that the volume has no more: another caller may
    hold the right lock.

    :param held: the volume's name when its lock was taken.
    :param volume: the volume's name, looked up under that lock.
    :raises AbortedError: they differ.
    """
    if volume != held:
        raise AbortedError(f"volume {held!r} was renamed meanwhile; try again")


def new_id() -> str:
    """Return a UUID for something that does not exist yet."""
    return str(uuid.uuid4())


def as_provider_volume(volume: Volume, kind: TypeEntry | None = None) -> ProviderVolume:
    """Return a volume as providers take it.

    :param kind: its type, for a volume that is to be created.
    """
    plain = ProviderVolume(id=volume.id, size=volume.size, name=volume.name)
    if kind is None:
        return plain
    return dataclasses.replace(plain, extra_specs=kind.extra_specs, qos_specs=kind.qos_specs)


def as_provider_snapshot(snapshot: Snapshot) -> ProviderSnapshot:
    """Return a snapshot as providers take it."""
    return ProviderSnapshot(id=snapshot.id, volume_id=snapshot.volume_id, size=snapshot.size, name=snapshot.name)


def plain_connector(value: Any, field: str = "connector") -> Mapping[str, Any]:
    """Return a host's description of itself, when it has the form of os-brick's properties.

    :raises InvalidArgumentError: it is no mapping of short plain values; drivers put these into
        commands.
    """
    given = validate.mapping(value, field)
    if len(given) > 64:
        raise InvalidArgumentError(f"{field} has too many keys", field=field)
    for key, item in given.items():
        items = item if isinstance(item, list) else [item]
        if len(items) > MAX_ITEMS or not all(entry is None or isinstance(entry, str | int | float | bool) for entry in items):
            raise InvalidArgumentError(f"{field}:{key} is not a plain value", field=f"{field}:{key}")
        if any(isinstance(entry, str) and (len(entry) > 1024 or not entry.isprintable()) for entry in items):
            raise InvalidArgumentError(f"{field}:{key} has a value that is too long or not printable", field=f"{field}:{key}")
    return given
