"""Setting a volume back to a snapshot. After a crash at any point, only the one content or the
other can be seen.

Snapshot and volume are marked ``reverting`` before the backend is asked. A crash may leave half
of the work done, so the volume cannot be used until a repetition has succeeded, at the next start
or with the next request.
"""

from __future__ import annotations

import logging
from typing import Any

from ... import model
from ...errors import FailedPreconditionError, NotFoundError, StorageError, UnimplementedError
from ...model import Snapshot, Volume
from ...providers.base import Capability
from .core import Caller, Core, as_provider_snapshot, as_provider_volume, refuse_renamed, require
from .volumes import Volumes

log = logging.getLogger(__name__)


class Reverts:
    """Setting volumes back."""

    def __init__(self, core: Core, volumes: Volumes) -> None:
        self.core = core
        self.volumes = volumes

    def revert(self, caller: Caller, *, name: str, confirm: bool = False, owner: str | None = None) -> dict[str, Any]:
        """Set a volume that no host is connected to back to its latest snapshot. All data written
        since is lost.

        :param name: name of the snapshot.
        :param confirm: True confirms that the data may be lost.
        :returns: ``volume`` and ``snapshot`` as they are now.
        :raises FailedPreconditionError: the loss is not confirmed, the volume is connected or has
            grown since, or there are later snapshots.
        :raises UnimplementedError: the backend cannot do this.
        """
        owner = self.core.owner(caller, owner, name, change=True)
        snapshot, volume = self._find(owner, name)
        if not confirm:
            raise FailedPreconditionError(
                f"everything written to volume {volume.name!r} since {name!r} was taken would be lost; if it may be, say confirm=True",
                field="confirm",
            )
        with self.core.held(caller, "return to a snapshot", (owner, volume.name)):
            held, (snapshot, volume) = volume.name, self._find(owner, name)
            refuse_renamed(held, volume.name)
            if volume.state != model.REVERTING:
                volume = self.volumes.usable(owner, volume.name)
                self._check(snapshot, volume)
            elif snapshot.state != model.REVERTING:
                [other] = self.core.catalog.snapshots(volume_id=volume.id, state=model.REVERTING)
                raise FailedPreconditionError(f"volume {volume.name!r} is being set back to {other.name!r}; repeat that first")
            log.warning("storage: volume %s of %s is set back to snapshot %s, asked for by %s", volume.id, owner, snapshot.id, caller)
            snapshot, volume = self._revert(snapshot, volume)
        return {"volume": volume.to_wire(), "snapshot": snapshot.to_wire()}

    def settle(self, snapshot: Snapshot) -> None:
        """Finish a return to ``snapshot`` that a crash cut off, with the volume's lock held."""
        volume = self.core.catalog.volume_by_id(snapshot.volume_id)
        if volume is not None and volume.state == model.REVERTING:
            self._revert(snapshot, volume)
        else:
            # The volume gets its mark after the snapshot, and loses it before the snapshot does.
            self.core.catalog.update(snapshot, state=model.AVAILABLE)

    def _find(self, owner: str, name: str) -> tuple[Snapshot, Volume]:
        snapshot = self.core.catalog.snapshot(owner, name)
        volume = self.core.catalog.volume_by_id(snapshot.volume_id) if snapshot else None
        if snapshot is None or volume is None:
            raise NotFoundError(f"there is no snapshot {name!r} of {owner}; salt-run storage.snapshots lists them", field="name")
        return snapshot, volume

    def _check(self, snapshot: Snapshot, volume: Volume) -> None:
        require(self.core.provider(volume.backend), Capability.REVERT, volume.backend, "set volumes back to a snapshot")
        # The volume is usable here, so a marked snapshot's return is done, or was not begun.
        if snapshot.state not in (model.AVAILABLE, model.REVERTING):
            raise FailedPreconditionError(f"snapshot {snapshot.name!r} is {snapshot.state}")
        if snapshot.size != volume.size:
            # Cinder's rule: some arrays give the volume the snapshot's size then, and some refuse
            # half way.
            raise FailedPreconditionError(
                f"volume {volume.name!r} has {volume.size} GiB by now, and had {snapshot.size} when {snapshot.name!r} was taken, so it"
                f" cannot be set back to that; make a new one with source: {{snapshot: {snapshot.name}}} and size: {volume.size}GiB"
            )
        hosts = [c.host for c in self.core.catalog.connections(volume_id=volume.id)]
        if hosts:
            raise FailedPreconditionError(f"volume {volume.name!r} is connected to {', '.join(hosts)}; disconnect it there first")
        # Cinder's rule: on many arrays, a return to an older snapshot destroys the later snapshots.
        later = [s.name for s in self.core.catalog.snapshots(volume_id=volume.id) if s.created > snapshot.created]
        if later:
            names = ", ".join(map(repr, later))
            raise FailedPreconditionError(
                f"{snapshot.name!r} is not the latest snapshot of volume {volume.name!r}: delete {names} first, or make a new volume of it"
            )

    def _revert(self, snapshot: Snapshot, volume: Volume) -> tuple[Snapshot, Volume]:
        catalog = self.core.catalog
        again = volume.state == model.REVERTING
        provider = self.core.provider(volume.backend)
        snapshot = catalog.update(snapshot, state=model.REVERTING)
        volume = catalog.update(volume, state=model.REVERTING)
        try:
            provider.revert_volume(as_provider_volume(volume), as_provider_snapshot(snapshot))
        except StorageError as error:
            if not again and isinstance(error, FailedPreconditionError | UnimplementedError):
                # The backend refused and did nothing.
                self._end(snapshot, volume)
            else:
                catalog.update(volume, error=error.message)
            raise
        return self._end(snapshot, volume)

    def _end(self, snapshot: Snapshot, volume: Volume) -> tuple[Snapshot, Volume]:
        volume = self.core.catalog.update(volume, state=model.AVAILABLE, error="")
        return self.core.catalog.update(snapshot, state=model.AVAILABLE), volume
