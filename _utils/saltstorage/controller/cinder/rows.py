"""The rows of cinderlib's metadata: volumes, snapshots, connections. :mod:`.provider` says what a
row means.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

from ...errors import NotFoundError, UnavailableError
from ...providers import BackendConfig, Capability, Provider, ProviderSnapshot, ProviderVolume
from . import logs
from .errors import is_gone

log = logging.getLogger(__name__)


def group_name(backend: str) -> str:
    """Return the name of a backend in Cinder: a group of oslo.config, and a part of its
    ``host@backend#pool``.

    >>> group_name("fast disks")
    'storage_fast%20disks'
    """
    return "storage_" + quote(backend, safe="")


class CinderRows(Provider):
    """The part of the provider that reads and writes rows; cinderlib's objects wrap Cinder's,
    which are in ``_ovo``.
    """

    def __init__(self, config: BackendConfig) -> None:
        super().__init__(config)
        self._group = group_name(config.name)
        self._loaded: Any = None
        self._capabilities: frozenset[Capability] = frozenset()

    @property
    def _backend(self) -> Any:
        if self._loaded is None:
            raise UnavailableError(f"backend {self.config.name!r} is not loaded")
        return self._loaded

    @property
    def driver(self) -> Any:
        """The Cinder driver.

        :raises UnavailableError: the backend is not loaded.
        """
        return self._backend.driver

    @property
    def _library(self) -> Any:
        import cinderlib

        return cinderlib

    @property
    def context(self) -> Any:
        """Cinder's context for calls of its database."""
        return self._library.objects.CONTEXT

    def _transaction(self) -> Any:
        """Return a context in which all writes are one transaction."""
        from cinder.db import api

        return api.main_context_manager.writer.using(self.context)

    def _exists(self, model: str, row_id: str) -> bool:
        from cinder.db import api, models

        return bool(api.resource_exists(self.context, getattr(models, model), row_id))

    def find_row(self, volume_id: str) -> Any:
        """Return the row of a volume, or None."""
        from cinder import exception, objects

        # Like persistence.get_volumes(), without its two more queries for the volume type.
        try:
            ovo = objects.Volume.get_by_id(self.context, volume_id)
        except exception.VolumeNotFound:
            return None
        return self._library.Volume(self._backend, __ovo=ovo)

    def need_row(self, volume_id: str) -> Any:
        """Return the row of a volume.

        :raises NotFoundError: there is none.
        """
        row = self.find_row(volume_id)
        if row is None:
            raise NotFoundError(f"volume {volume_id} is not in the metadata of backend {self.config.name!r}")
        return row

    def _find_snapshot(self, snapshot_id: str) -> Any:
        rows = self._backend.persistence.get_snapshots(snapshot_id=snapshot_id)
        return rows[0] if rows else None

    def _need_snapshot(self, snapshot_id: str) -> Any:
        row = self._find_snapshot(snapshot_id)
        if row is None:
            raise NotFoundError(f"snapshot {snapshot_id} is not in the metadata of backend {self.config.name!r}")
        return row

    @staticmethod
    def _find_connection(row: Any, connection_id: str) -> Any:
        return next((connection for connection in row.connections if connection.id == connection_id), None)

    def _new_volume(self, volume: ProviderVolume, **fields: Any) -> Any:
        shared = Capability.MULTIATTACH in self._capabilities
        given = {"id": volume.id, "size": volume.size, "name": volume.name, "multiattach": shared, "pool_name": volume.pool or None}
        return self._library.Volume(self._backend, **given, **fields)

    def _save_new(self, row: Any, volume: ProviderVolume) -> Any:
        """Write the row of a new volume, with a volume type of its own that has its specs, and
        return the row as written.

        cinderlib would write the type too, but without its QoS.
        """
        if not (volume.extra_specs or volume.qos_specs):
            row.save()
            return row
        from cinder.db import api

        with self._transaction():
            row.save()
            kind = {"id": volume.id, "name": volume.id, "is_public": True, "extra_specs": dict(volume.extra_specs)}
            if volume.qos_specs:
                qos = {"name": volume.id, "consumer": "back-end", "specs": dict(volume.qos_specs)}
                kind["qos_specs_id"] = api.qos_specs_create(self.context, qos)["id"]
            api.volume_type_create(self.context, kind)
            api.volume_update(self.context, volume.id, {"volume_type_id": volume.id})
        return self.need_row(volume.id)

    def _new_snapshot(self, snapshot: ProviderSnapshot, volume: Any) -> Any:
        return self._library.Snapshot(volume, id=snapshot.id, name=snapshot.name)

    @staticmethod
    def _update(row: Any, changes: Mapping[str, Any] | None, *, status: str | None = None) -> None:
        """Record a driver's answer, and a new status.

        Metadata replaces that of the row, as with Cinder's own objects.
        """
        if changes:
            row._ovo.update(changes)
        if status is not None and row._ovo.status != status:
            row._ovo.status = status
        # Not obj_what_changed(): it follows the circle that cinderlib makes of a volume and its
        # connections, without end.
        changed = row.persistence.get_changed_fields(row)
        if not changed:
            return
        from cinder.db import api

        context = row._ovo._context
        # Not save(): from an existing row of a volume it takes its own type away, and with it the
        # specs; and it writes no metadata of a snapshot.
        if row._ovo.obj_name() == "Volume":
            api.volume_update(context, row.id, changed)
        else:
            metadata = changed.pop("metadata", None)
            with api.main_context_manager.writer.using(context):
                if metadata is not None:
                    api.snapshot_metadata_update(context, row.id, metadata, True)
                if changed:
                    api.snapshot_update(context, row.id, changed)
        row.persistence.reset_change_tracker(row)

    @staticmethod
    def _discard(row: Any, delete: Callable[[Any], Any], forget: Callable[[Any], Any]) -> None:
        """Remove the remains of a failed creation from the backend, and then its row.

        The row stays when the driver could not remove them: a later deletion needs the place that
        the row names.
        """
        try:
            delete(row._ovo)
        except Exception as error:
            if not is_gone(error):
                log.warning("storage: the remains of the failed creation of %s could not be removed: %s", row.id, logs.describe(error))
                return
        forget(row)

    @staticmethod
    def _keep_secret(row: Any) -> None:
        """Mask the volume's present CHAP password in every message, and no longer its
        former one.
        """
        logs.keep_secrets(row.id, (row._ovo.provider_auth or "").split()[2:])
