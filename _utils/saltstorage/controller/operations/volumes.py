"""The controller's operations on volumes: ensure, extend, delete."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ... import model
from ...errors import FailedPreconditionError, InternalError, InvalidArgumentError, NotFoundError, StorageError
from ...model import Volume
from ...providers.base import Capability, Provider
from ...rules import refuse_different, refuse_protected, retains
from ...spec import ATTRIBUTES, VolumeSpec, differing
from ..access.config import TypeEntry
from ..access.locks import owner_key
from .core import Caller, Core, as_provider_volume, new_id, require
from .placement import Placement, Request, pool_of, request_for
from .releases import Releases
from .sources import Source, Sources

log = logging.getLogger(__name__)


class Volumes:
    """Creating, growing and deleting volumes.

    :param settlers: for each state that an operation of the administrator gives a volume: a
        function that settles the volume after a crash, and returns it, or None when it is gone.
    """

    def __init__(self, core: Core, releases: Releases, settlers: Mapping[str, Callable[[Volume], Volume | None]]) -> None:
        self.core = core
        self.sources = Sources(core)
        self.placement = Placement(core)
        self.releases = releases
        self.settlers = {model.RELEASING: releases.settle, **settlers}

    def create(self, caller: Caller, *, name: str, spec: VolumeSpec, owner: str | None = None) -> dict[str, Any]:
        """Make sure that a volume exists, is at least as large as asked, and has the attributes
        that are given.

        :returns: ``volume`` as it is now, and ``old`` as it was before, None when it was created.
        """
        owner = self.core.owner(caller, owner, name, change=True)
        sources = self.sources.locks(owner, spec)
        with self.core.held(caller, "creation", (owner, name), *sources):
            self.sources.check_locks(owner, spec, sources)
            old, volume = self.ensure(caller, owner, name, spec)
        return {"volume": volume.to_wire(), "old": old.to_wire() if old else None}

    def extend(self, caller: Caller, *, name: str, size: int, owner: str | None = None) -> dict[str, Any]:
        """Grow a volume; a volume that has the size already is left alone.

        :returns: ``volume`` as it is now, ``old`` as it was before, and ``behind``: the hosts
            with unreported growth.
        """
        owner = self.core.owner(caller, owner, name, change=True)
        with self.core.held(caller, "extension", (owner, name)):
            old = volume = self._recover(self.core.volume(owner, name))
            if volume.size < size:
                volume = self._grow(caller, volume, size)
            behind = [c.host for c in self.core.catalog.connections(volume_id=volume.id) if c.behind(volume)]
        return {"volume": volume.to_wire(), "old": old.to_wire(), "behind": behind}

    def update(self, caller: Caller, *, name: str, attributes: Mapping[str, Any], owner: str | None = None) -> dict[str, Any]:
        """Change attributes of a volume; the others stay as they are.

        :param attributes: checked values by name; see :func:`saltstorage.spec.decode_attributes`.
        :returns: ``volume`` as it is now, and ``old`` as it was before.
        """
        if not attributes:
            raise InvalidArgumentError(f"give what to change: {', '.join(ATTRIBUTES)}", field=ATTRIBUTES[0])
        owner = self.core.owner(caller, owner, name, change=True)
        self.core.volume(owner, name)
        with self.core.held(caller, "update", (owner, name)):
            old = self.core.volume(owner, name)
            volume = self._write(old, attributes)
        return {"volume": volume.to_wire(), "old": old.to_wire()}

    def delete(self, caller: Caller, *, name: str, retain: bool | None = None, owner: str | None = None) -> dict[str, Any]:
        """Delete a volume that no host is connected to, that has no snapshots and that is not
        protected; or only let go of it.

        :param retain: leave its data on the backend, and only forget it; None: as recorded with
            the volume.
        :returns: ``old``: the volume as it was, None when there was none; ``record_only``: the
            backend no longer had it; ``retained``: None, or the answer of
            :meth:`.Releases.release` when the data stays on the backend.
        """
        owner = self.core.owner(caller, owner, name, change=True)
        nothing: dict[str, Any] = {"old": None, "record_only": False, "retained": None}
        if self.core.catalog.volume(owner, name) is None:
            # Without a lock, which would guard nothing.
            return nothing
        with self.core.held(caller, "deletion", (owner, name)):
            volume = self.core.catalog.volume(owner, name)
            if volume is not None and volume.state in self.settlers and volume.state != model.RELEASING:
                # Deleting a volume that is half adopted or half moved would delete too much, or
                # too little.
                volume = self.settle(volume)
            if volume is None:
                return nothing
            if volume.state == model.RELEASING:
                # It was decided that the data stays, and the backend may have let go of the
                # volume already.
                return {"old": volume.to_wire(), "record_only": False, "retained": self.releases.release(volume)}
            refuse_protected(volume)
            self.check_unused(volume)
            if retains(volume, retain, caller.minion, may=self.core.rule(caller).may_retain):
                return {"old": volume.to_wire(), "record_only": False, "retained": self.releases.release(self._recover(volume))}
            existed = self.remove(volume)
        return {"old": volume.to_wire(), "record_only": not existed, "retained": None}

    # Steps, called with the volume's lock held.

    def usable(self, owner: str, name: str) -> Volume:
        """Return a volume that exists and is at rest; an extension that was cut off is settled
        first.

        :raises NotFoundError: there is no such volume.
        :raises FailedPreconditionError: it is half created or half deleted.
        """
        volume = self._recover(self.core.volume(owner, name))
        if volume.state == model.AVAILABLE:
            return volume
        why = f" ({volume.error})" if volume.error else ""
        raise FailedPreconditionError(f"volume {name!r} of {owner} is {volume.state}{why}; apply storage_volume.present or absent first")

    def ensure(
        self,
        caller: Caller,
        owner: str,
        name: str,
        spec: VolumeSpec,
        *,
        anew: bool = True,
        check: Callable[[Provider], None] | None = None,
    ) -> tuple[Volume | None, Volume]:
        """Return the volume as it was (None: it did not exist) and as it is.

        :param anew: whether a volume that is half deleted may be deleted and created anew.
        :param check: called with the backend's provider before a volume is created; it may refuse
            that.
        """
        # Both are looked up first, so that a wrong name is an error whatever exists.
        kind = self.core.config.type(spec.type) if spec.type is not None else None
        if spec.backend is not None:
            self.core.config.backend(spec.backend)
        old = self.core.catalog.volume(owner, name)
        if old is not None and old.state == model.DELETING and not anew:
            text = f"volume {name!r} of {owner} is being deleted; apply storage_volume.absent, or present to make it anew"
            raise FailedPreconditionError(text)
        if old is not None and old.state in (model.CREATING, model.DELETING, model.ERROR):
            # We hold the lock, so the process that was creating or deleting it has died. Its
            # contents are not needed.
            self.remove(old)
            old = None
        if old is not None and old.state == model.RELEASING:
            # The old volume stays on the backend under no name of the catalog; the next of its
            # name is a new volume.
            old = self.settle(old)
        if old is None:
            return None, self._create(caller, owner, name, spec, kind, check)
        old = volume = self._recover(old)
        refuse_different(spec, volume, self.sources.find(owner, spec))
        if volume.size < spec.size:
            volume = self._grow(caller, volume, spec.size)
        # Last, so that nothing is written when the volume cannot become what was asked for.
        return old, self._write(volume, spec.attributes)

    def remove(self, volume: Volume) -> bool:
        """Delete a volume from its backend and then from the catalog; return whether the backend
        had it.
        """
        provider = self.core.provider(volume.backend)
        before = volume.state
        volume = self.core.catalog.update(volume, state=model.DELETING)
        try:
            existed = provider.delete_volume(as_provider_volume(volume))
        except FailedPreconditionError:
            # The array refused and did nothing, so the volume is as usable as before.
            self.core.catalog.update(volume, state=before)
            raise
        except StorageError as error:
            self.core.catalog.update(volume, error=error.message)
            raise
        self.core.catalog.remove(volume)
        return existed

    def settle(self, volume: Volume) -> Volume | None:
        """Settle a volume after a crash; return the volume as it is then, None when it is gone."""
        if volume.state in (model.CREATING, model.DELETING, model.ERROR):
            self.remove(volume)
            return None
        if volume.state in self.settlers:
            return self.settlers[volume.state](volume)
        return self._recover(volume)

    def _write(self, volume: Volume, attributes: Mapping[str, Any]) -> Volume:
        changes = differing(volume, attributes)
        return self.core.catalog.update(volume, **changes) if changes else volume

    def _create(
        self,
        caller: Caller,
        owner: str,
        name: str,
        spec: VolumeSpec,
        kind: TypeEntry | None,
        check: Callable[[Provider], None] | None,
    ) -> Volume:
        source = self.sources.get(owner, spec)
        kind, request = self._place(caller, spec, kind, source)
        if check is not None:
            for name_of in request.backends:
                check(self.core.provider(name_of))
        pool = None if source is None else self._pool_of_source(source)
        volume = Volume(
            id=new_id(),
            owner=owner,
            name=name,
            backend=request.backends[0],
            type=kind.name if kind else None,
            size=spec.size,
            state=model.CREATING,
            source=source.record if source else None,
            # A copy has the content of its source: once that was formatted, no consumer makes a
            # file system on the copy.
            formatted=source is not None and source.formatted,
            encrypted=source.found.encrypted if source else False,
            created=time.time(),
            **spec.attributes,
        )
        with self.core.locks.held(owner_key(owner), why="a look at the quota"):
            if caller.minion:
                count, gib = self.core.catalog.usage(owner)
                self.core.rule(caller).check_usage(caller.minion, count + 1, gib + spec.size)
            with self.placement.chosen(request, volume.id, only=pool) as (backend, reservation):
                volume = dataclasses.replace(volume, backend=backend)
                self.core.catalog.apply(add=[volume, reservation])
        try:
            copied = source.as_provider_source() if source else None
            wanted = dataclasses.replace(as_provider_volume(volume, kind), pool=reservation.pool if source is None else "")
            size = self.core.provider(backend).create_volume(wanted, source=copied)
            if size < spec.size:
                raise InternalError(f"backend {backend!r} delivered {size} GiB and not the {spec.size} GiB that were asked for")
        except BaseException as error:
            self._undo_create(volume, error)
            self.placement.forget(reservation)
            raise
        self.placement.settle(reservation)
        return self.core.catalog.update(volume, state=model.AVAILABLE, size=size, requested=_requested(spec.size, size))

    def _place(self, caller: Caller, spec: VolumeSpec, kind: TypeEntry | None, source: Source | None) -> tuple[TypeEntry | None, Request]:
        """Return the type of a new volume and its request for space, if policy and backends allow
        them.

        :param kind: the type that was asked for; None takes the source's.
        """
        if kind is None and source is not None and source.type is not None:
            kind = self.core.config.type(source.type)
        request = self.request(caller, spec.size, spec.backend, kind, spec.pool)
        backends = request.backends
        if source is not None and source.found.backend in backends:
            backends = (source.found.backend,)
        for backend in backends:
            if source is not None:
                source.refuse_other_backend(backend)
            if len(backends) > 1 and self.core.backends[backend].look().state != "up":
                continue
            provider = self.core.provider(backend)
            if kind is not None and kind.specs:
                require(provider, Capability.SPECS, backend, f"apply the specs of type {kind.name!r}")
            if source is not None:
                capability, doing = source.capability
                require(provider, capability, backend, doing)
        return kind, dataclasses.replace(request, backends=backends)

    def request(self, caller: Caller, gib: int, backend: str | None, kind: TypeEntry | None, pool: str | None = None) -> Request:
        """Return the request for space of a volume, with all that the policy allows.

        :param pool: glob of the pools that were asked for; None: any.
        :raises PermissionDeniedError: the policy allows no such backend or type.
        """
        backends = self.core.config.choose_backends(backend, kind)
        pools: dict[str, Sequence[str]] = {}
        if caller.minion:
            rule = self.core.rule(caller)
            allowed = tuple(name for name in backends if rule.may_use(name))
            if not allowed:
                rule.check_backend(caller.minion, backends[0])
            rule.check_type(caller.minion, kind.name if kind else None)
            backends = allowed
            if rule.pools != ("*",):
                pools["the policy"] = rule.pools
        if pool is not None:
            pools["the volume"] = (pool,)
        return request_for(kind, gib, backends, pools)

    def _pool_of_source(self, source: Source) -> str:
        return "" if source.volume is None else pool_of(self.core, source.volume)

    def _undo_create(self, volume: Volume, error: BaseException) -> None:
        """Remove all traces of a failed creation; when even that fails, keep the record, so that
        the volume is known.
        """
        text = error.message if isinstance(error, StorageError) else type(error).__name__
        try:
            self.core.provider(volume.backend).delete_volume(as_provider_volume(volume))
            self.core.catalog.remove(volume)
        except Exception as second:
            log.error("storage: volume %s was not created and cannot be cleaned up yet: %s", volume.id, type(second).__name__)
            self.core.catalog.update(volume, state=model.ERROR, error=text)

    def _grow(self, caller: Caller, volume: Volume, size: int) -> Volume:
        if volume.state != model.AVAILABLE:
            raise FailedPreconditionError(f"volume {volume.name!r} is {volume.state}; create or delete it again first")
        provider = self.core.provider(volume.backend)
        require(provider, Capability.EXTEND, volume.backend, "grow volumes")
        connections = self.core.catalog.connections(volume_id=volume.id)
        if connections and Capability.EXTEND_ONLINE not in provider.capabilities():
            hosts = ", ".join(c.host for c in connections)
            raise FailedPreconditionError(
                f"backend {volume.backend!r} grows volumes only while no host uses them; disconnect {hosts} first"
            )
        kind = self.core.config.types.get(volume.type or "")
        request = request_for(kind, size - volume.size, [volume.backend], {})
        with self.core.locks.held(owner_key(volume.owner), why="a look at the quota"):
            if caller.minion:
                count, gib = self.core.catalog.usage(volume.owner)
                self.core.rule(caller).check_usage(caller.minion, count, gib - volume.size + size)
            with self.placement.chosen(request, volume.id, only=pool_of(self.core, volume)) as (_, reservation):
                # The new size counts from here on, for the next look at the quota.
                self.core.catalog.apply(update=[(volume, {"state": model.EXTENDING, "size": size})], add=[reservation])
            before, volume = volume, dataclasses.replace(volume, state=model.EXTENDING, size=size)
        asked = size
        try:
            size = provider.extend_volume(as_provider_volume(before), size)
        except StorageError as error:
            # A failed extension leaves the volume as it was: its data is there, and it can be used.
            self.core.catalog.update(volume, state=model.AVAILABLE, size=before.size, error=error.message)
            self.placement.forget(reservation)
            raise
        self.placement.settle(reservation)
        return self.core.catalog.update(volume, state=model.AVAILABLE, size=size, requested=_requested(asked, size), error="")

    def _recover(self, volume: Volume) -> Volume:
        """Return the volume. After a crash, its record gets the size on the backend, or the
        administrator's operation is settled.
        """
        if volume.state in self.settlers:
            settled = self.settlers[volume.state](volume)
            if settled is None:
                raise NotFoundError(f"volume {volume.name!r} of {volume.owner} does not exist any more: its {volume.state} was finished")
            return settled
        if volume.state == model.REVERTING:
            raise FailedPreconditionError(
                f"volume {volume.name!r} of {volume.owner} is being set back to a snapshot{f' ({volume.error})' if volume.error else ''};"
                " repeat that (salt-run storage.snapshot_revert) until it succeeds"
            )
        if volume.state != model.EXTENDING:
            return volume
        size = self.core.provider(volume.backend).volume_size(as_provider_volume(volume))
        if size is None:
            raise NotFoundError(f"backend {volume.backend!r} has no volume {volume.id} any more; look for it there")
        return self.core.catalog.update(volume, state=model.AVAILABLE, size=size)

    def check_unused(self, volume: Volume) -> None:
        """Refuse a volume that is connected or has snapshots.

        :raises FailedPreconditionError: naming the hosts or the snapshots.
        """
        connections = self.core.catalog.connections(volume_id=volume.id)
        if connections:
            hosts = ", ".join(c.host for c in connections)
            raise FailedPreconditionError(f"volume {volume.name!r} is connected to {hosts}; disconnect it there first")
        snapshots = self.core.catalog.snapshots(volume_id=volume.id)
        if snapshots:
            names = ", ".join(repr(s.name) for s in snapshots)
            raise FailedPreconditionError(f"volume {volume.name!r} has the snapshots {names}; delete them first")


def _requested(asked: int, delivered: int) -> int | None:
    return asked if delivered > asked else None
