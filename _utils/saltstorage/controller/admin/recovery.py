"""Finishes or undoes interrupted work when its backend comes up, and restores exports that a
restart lost.
"""

from __future__ import annotations

import logging

from ... import model
from ...errors import AbortedError, StorageError
from ...faults import as_storage_error
from ...model import Connection, Move, Volume
from ..access.locks import volume_key
from ..operations.connections import Connections
from ..operations.core import Caller, Core, as_provider_volume, refuse_renamed
from ..operations.reverts import Reverts
from ..operations.snapshots import Snapshots
from ..operations.volumes import Volumes
from .moves import Mover

log = logging.getLogger(__name__)


class Recovery:
    """Recovery of one backend. It leaves alone the present work of other processes, which hold
    their locks.
    """

    def __init__(
        self, core: Core, volumes: Volumes, connections: Connections, snapshots: Snapshots, reverts: Reverts, mover: Mover
    ) -> None:
        self.core = core
        self.volumes = volumes
        self.connections = connections
        self.snapshots = snapshots
        self.mover = mover
        self.reverts = reverts
        #: By backend: the volumes whose export could not be restored, by id, and the reason as it
        #: was logged.
        self._unrestored: dict[str, dict[str, str]] = {}

    def run(self, backend: str) -> bool:
        """Recover everything on a backend that is up; return whether an export could not be
        restored.

        Such exports are left for :meth:`restore_failed`. Any other failure is logged, and left for
        the next request or start.
        """
        from ..catalog.listing import find_connected

        catalog = self.core.catalog
        # By their states alone, which few volumes have: by the index of the backend, all its
        # volumes would be read.
        half_done = catalog.volumes(state=[model.CREATING, model.DELETING, model.EXTENDING, model.ERROR, *self.volumes.settlers])
        on_backend = [v for v in half_done if v.backend == backend]
        for connection in catalog.connections(state=[model.CONNECTING, model.DISCONNECTING]):
            volume = catalog.volume_by_id(connection.volume_id)
            if volume is not None and volume.backend == backend:
                self._try(volume, "connection", connection)
        for snapshot in catalog.snapshots(backend=backend, state=[model.CREATING, model.DELETING, model.REVERTING]):
            parent = catalog.volume_by_id(snapshot.volume_id)
            if parent is not None:
                self._try(parent, "snapshot", snapshot.name)
        for volume in on_backend:
            self._try(volume, "volume", None)
        for move in catalog.moves(state=[model.COPYING, model.REMOVING]):
            if backend in (move.source_backend, move.target_backend):
                moved = Volume(id=move.source_id, owner=move.owner, name=move.name, backend=backend, size=move.size)
                self._try(moved, "move", move)
        for connected in find_connected(catalog, backend):
            self._restore(backend, connected.id)
        return bool(self._unrestored.get(backend))

    def restore_failed(self, backend: str) -> bool:
        """Try again the exports that could not be restored; return whether some still cannot."""
        for volume_id in list(self._unrestored.get(backend, ())):
            self._restore(backend, volume_id)
        return bool(self._unrestored.get(backend))

    def _refuse_renamed(self, held: Volume, now: Volume) -> None:
        """Leave a volume alone that was renamed, or given away, before its lock was held."""
        refuse_renamed(f"{held.owner}/{held.name}", f"{now.owner}/{now.name}")

    def _try(self, volume: Volume, what: str, item: Connection | Move | str | None) -> None:
        try:
            with self.core.locks.held(volume_key(volume.owner, volume.name), why=f"recovery of {volume.name!r}", timeout=0):
                self._refuse_renamed(volume, self.core.catalog.volume_by_id(volume.id) or volume)
                if isinstance(item, Connection):
                    self.settle_connection(volume, item)
                elif isinstance(item, Move):
                    self.mover.recover(item)
                elif isinstance(item, str):
                    self.settle_snapshot(volume.owner, item, held=volume.name)
                else:
                    self.settle_volume(volume)
        except AbortedError:
            log.info("storage: volume %s is being worked on elsewhere; its %s is left alone", volume.id, what)
        except StorageError as error:
            log.error("storage: interrupted work on the %s of volume %s is not settled yet: %s", what, volume.id, error)
        except Exception as error:  # One item must not keep the others from being recovered.
            as_storage_error(error, f"recovery of the {what} of volume {volume.id}")

    # The caller holds the volume's lock. Each method looks again whether there is work.

    def settle_connection(self, volume: Volume, connection: Connection) -> None:
        """Unmap a connection that is half made or half undone."""
        now = self.core.catalog.connection(volume.id, connection.host)
        if now is not None and now.state in (model.CONNECTING, model.DISCONNECTING):
            self.connections.unmap(volume, now)
            log.warning("storage: undid the half done connection of volume %s to %s", volume.id, now.host)

    def settle_snapshot(self, owner: str, name: str, *, held: str) -> None:
        """Remove a snapshot that is half taken or half deleted; finish setting its volume back to
        it.

        :param held: name of the volume whose lock is held.
        :raises AbortedError: the snapshot's volume has another name by now.
        """
        now = self.core.catalog.snapshot(owner, name)
        if now is not None:
            refuse_renamed(held, now.volume)
        if now is not None and now.state == model.REVERTING:
            self.reverts.settle(now)
            log.warning("storage: volume %s is set back to snapshot %s, or was not touched", now.volume_id, now.id)
        elif now is not None and now.state in (model.CREATING, model.DELETING, model.ERROR):
            self.snapshots.remove(now)
            log.warning("storage: removed the half done snapshot %s", now.id)

    def settle_volume(self, volume: Volume) -> None:
        """Finish or undo interrupted work on a volume."""
        now = self.core.catalog.volume_by_id(volume.id)
        if now is not None and now.state == model.REVERTING:
            for snapshot in self.core.catalog.snapshots(volume_id=now.id, state=model.REVERTING):
                self.settle_snapshot(snapshot.owner, snapshot.name, held=now.name)
        elif now is not None and now.state != model.AVAILABLE:
            after = self.volumes.settle(now)
            log.warning("storage: volume %s was %s and is now %s", now.id, now.state, after.state if after else "gone")

    def _restore(self, backend: str, volume_id: str) -> None:
        """Restore the export of a volume if it is still connected; remember a failure, and log it
        when it is new.
        """
        failed = self._unrestored.setdefault(backend, {})
        try:
            volume = self.core.catalog.volume_by_id(volume_id)
            if volume is not None and volume.backend == backend:
                with self.core.held(Caller(), "restoration", (volume.owner, volume.name)):
                    self._refuse_renamed(volume, self.core.catalog.volume_by_id(volume_id) or volume)
                    if self.core.catalog.connections(volume_id=volume_id):
                        self.core.provider(backend).restore(as_provider_volume(volume))
        except StorageError as error:
            if failed.get(volume_id) != str(error):
                log.error("storage: the export of volume %s could not be restored; it is tried again: %s", volume_id, error)
            failed[volume_id] = str(error)
        except Exception as error:  # One item must not keep the others from being restored.
            if failed.get(volume_id) != type(error).__name__:
                as_storage_error(error, f"restoration of the export of volume {volume_id}")
            failed[volume_id] = type(error).__name__
        else:
            if failed.pop(volume_id, None) is not None:
                log.info("storage: the export of volume %s is restored, or not needed any more", volume_id)
