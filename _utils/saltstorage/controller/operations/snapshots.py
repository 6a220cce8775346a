"""The controller's operations on snapshots."""

from __future__ import annotations

import logging
import time
from typing import Any

from ... import model
from ...errors import AlreadyExistsError, DeadlineExceededError, FailedPreconditionError, NotFoundError, StorageError
from ...model import Snapshot, Volume
from ...providers.base import Capability
from ..access.locks import owner_key
from .core import Caller, Core, as_provider_snapshot, new_id, refuse_renamed, require
from .volumes import Volumes

log = logging.getLogger(__name__)


class Snapshots:
    """Taking and deleting snapshots."""

    def __init__(self, core: Core, volumes: Volumes) -> None:
        self.core = core
        self.volumes = volumes

    def ready(self, caller: Caller, *, volume: str, owner: str | None = None) -> dict[str, Any]:
        """Wait until the backend of a volume is loaded, and check that it can take snapshots. A
        caller that is going to hold up writers asks this first.

        :returns: ``backend``; ``time``: now, seconds since the epoch, by the same clock as
            ``until`` of :meth:`create`.
        """
        found = self.core.volume(self.core.owner(caller, owner, volume, change=True), volume)
        require(self.core.provider(found.backend), Capability.SNAPSHOT, found.backend, "take snapshots")
        return {"backend": found.backend, "time": time.time()}

    def create(
        self,
        caller: Caller,
        *,
        name: str,
        volume: str,
        owner: str | None = None,
        frozen: bool = False,
        until: float | None = None,
        series: str = "",
    ) -> dict[str, Any]:
        """Make sure that a snapshot of a volume exists.

        :param frozen: the caller holds the volume's file systems still, and will confirm with
            :meth:`mark_frozen` that it did so until the end. A snapshot that was never confirmed
            is taken anew.
        :param until: time at which the caller lets writers go on, seconds since the epoch, see
            :meth:`ready`. A later snapshot is not kept, since the caller no longer waits for it
            and cannot confirm it.
        :param series: name of the series that it belongs to.
        :returns: ``snapshot`` as it is now; ``old`` as it was before, None when it was taken.
        :raises DeadlineExceededError: it was not taken before ``until``.
        """
        owner = self.core.owner(caller, owner, volume, change=True)
        with self.core.held(caller, "snapshot", (owner, volume)):
            old = self.core.catalog.snapshot(owner, name)
            if old is not None and old.volume != volume:
                raise AlreadyExistsError(f"snapshot {name!r} of {owner} exists and is of volume {old.volume!r}", field="volume")
            # Before anything is removed: the volume may be on its way back to that very snapshot.
            parent = self.volumes.usable(owner, volume)
            if old is not None and (old.state in (model.CREATING, model.DELETING, model.ERROR) or (frozen and old.frozen is None)):
                self.remove(old)
                old = None
            if old is not None:
                if old.volume_id != parent.id:
                    raise AlreadyExistsError(f"snapshot {name!r} is of an earlier volume of the name {volume!r}", field="volume")
                if frozen and not old.frozen:
                    text = f"snapshot {name!r} exists and was taken with the file system in use; delete it, or choose another name"
                    raise AlreadyExistsError(text, field="freeze")
                return {"snapshot": old.to_wire(), "old": old.to_wire()}
            snapshot = self._take(caller, parent, name, frozen=frozen, until=until, series=series)
        return {"snapshot": snapshot.to_wire(), "old": None}

    def mark_frozen(self, caller: Caller, *, name: str, id: str, owner: str | None = None) -> dict[str, Any]:
        """Record that the file systems were held still until a snapshot was taken.

        :param id: id of that snapshot; another snapshot of the name may have been taken since.
        :returns: ``snapshot`` as it is now.
        """
        owner = self.core.owner(caller, owner, name, change=True)
        held = self._find(owner, name)
        with self.core.held(caller, "confirmation of a snapshot", (owner, held.volume)):
            found = self._find(owner, name)
            refuse_renamed(held.volume, found.volume)
            if found.id != id or found.state != model.AVAILABLE:
                raise FailedPreconditionError(f"snapshot {name!r} was taken anew, or is being deleted, meanwhile; apply again")
            if found.frozen is None:
                found = self.core.catalog.update(found, frozen=True)
        return {"snapshot": found.to_wire()}

    def delete(self, caller: Caller, *, name: str, owner: str | None = None) -> dict[str, Any]:
        """Delete a snapshot.

        :returns: ``old``: the snapshot as it was, None when there was none; ``record_only``: the
            backend no longer had it.
        """
        owner = self.core.owner(caller, owner, name, change=True)
        held = self.core.catalog.snapshot(owner, name)
        if held is None:
            return {"old": None, "record_only": False}
        with self.core.held(caller, "deletion of a snapshot", (owner, held.volume)):
            found = self.core.catalog.snapshot(owner, name)
            if found is None:
                return {"old": None, "record_only": False}
            refuse_renamed(held.volume, found.volume)
            existed = self.remove(found)
        return {"old": found.to_wire(), "record_only": not existed}

    def remove(self, snapshot: Snapshot) -> bool:
        """Delete a snapshot from its backend and then from the catalog, with its volume's lock
        held.
        """
        if snapshot.state == model.REVERTING:
            raise FailedPreconditionError(f"volume {snapshot.volume!r} is being set back to {snapshot.name!r}; that must end first")
        provider = self.core.provider(snapshot.backend)
        before = snapshot.state
        snapshot = self.core.catalog.update(snapshot, state=model.DELETING)
        try:
            existed = provider.delete_snapshot(as_provider_snapshot(snapshot))
        except FailedPreconditionError as error:
            self.core.catalog.update(snapshot, state=before)
            raise self._with_dependants(snapshot, error) from None
        except StorageError as error:
            self.core.catalog.update(snapshot, error=error.message)
            raise
        self.core.catalog.remove(snapshot)
        return existed

    def _take(self, caller: Caller, parent: Volume, name: str, *, frozen: bool, until: float | None, series: str) -> Snapshot:
        """Take a snapshot of a volume, with the volume's lock held."""
        provider = self.core.provider(parent.backend)
        require(provider, Capability.SNAPSHOT, parent.backend, "take snapshots")
        _refuse_late(until)
        snapshot = Snapshot(
            id=new_id(),
            owner=parent.owner,
            name=name,
            volume_id=parent.id,
            volume=parent.name,
            backend=parent.backend,
            size=parent.size,
            encrypted=parent.encrypted,
            state=model.CREATING,
            created=time.time(),
            frozen=None if frozen else False,
            series=series,
        )
        with self.core.locks.held(owner_key(parent.owner), why="a look at the quota"):
            if caller.minion:
                count, gib = self.core.catalog.usage(parent.owner)
                self.core.rule(caller).check_usage(caller.minion, count, gib + snapshot.size)
            self.core.catalog.add(snapshot)
        try:
            provider.create_snapshot(as_provider_snapshot(snapshot))
            _refuse_late(until)
        except BaseException:
            self._undo(snapshot)
            raise
        return self.core.catalog.update(snapshot, state=model.AVAILABLE)

    def _find(self, owner: str, name: str) -> Snapshot:
        found = self.core.catalog.snapshot(owner, name)
        if found is None:
            raise NotFoundError(f"there is no snapshot {name!r} of {owner}", field="name")
        return found

    def _with_dependants(self, snapshot: Snapshot, error: FailedPreconditionError) -> FailedPreconditionError:
        """Return the refusal of a backend with the names of the volumes made of the snapshot: on
        some backends they depend on it.
        """
        from ..catalog.paging import each

        owned = (volume for volume, _ in each(self.core.catalog, Volume, owner=snapshot.owner))
        made = [v.name for v in owned if v.source and v.source.get("id") == snapshot.id]
        if not made:
            return error
        names = ", ".join(map(repr, made))
        text = f"{error.message}; snapshot {snapshot.name!r} is the source of the volumes {names}"
        return FailedPreconditionError(text, details={**error.details, "volumes": made})

    def _undo(self, snapshot: Snapshot) -> None:
        try:
            self.remove(snapshot)
        except Exception as error:
            log.error("storage: snapshot %s was not taken and cannot be cleaned up yet: %s", snapshot.id, type(error).__name__)


def _refuse_late(until: float | None) -> None:
    if until is not None and time.time() > until:
        raise DeadlineExceededError(
            "the snapshot was not taken while the file system was held frozen, and is not kept. Raise timeout, or take it without freeze",
            field="timeout",
        )
