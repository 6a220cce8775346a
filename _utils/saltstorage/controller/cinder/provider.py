"""The provider for every backend that has a Cinder driver, with cinderlib and without any
OpenStack service.

cinderlib loads the driver and keeps the metadata that drivers need (``provider_location``,
``provider_auth``, …). The further work of its objects is not used: they check nothing, leave rows
in ``error`` behind, and cut the other hosts off when one disconnects. The steps around the driver
are those of Cinder's volume manager, in an order in which each can be repeated.

A row is written before the driver is called and removed after, so a row says: the backend may have
something of this id.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ...errors import AlreadyExistsError, FailedPreconditionError, InternalError, UnavailableError
from ...model import AVAILABLE, CREATING, EXTENDING, REVERTING, BackendStats, Pool
from ...providers import BackendConfig, Capability, ProviderSnapshot, ProviderVolume, initiator_keys, merge_connectors
from ...providers.initiators import bound_keys
from . import bridge, logs, packages, pools, stats, zoning
from . import options as driver_options
from .errors import is_gone, map_errors
from .logs import describe
from .manage import CinderManage

log = logging.getLogger(__name__)

IN_USE = "in-use"
#: Drivers of Cinder, and the subclasses that are loaded in their place.
REPLACED = {
    "cinder.volume.drivers.lvm.LVMVolumeDriver": "saltstorage.controller.cinder.lvm.LVMVolumeDriver",
    "cinder.volume.drivers.rbd.RBDDriver": "saltstorage.controller.cinder.rbd.RBDDriver",
}


class CinderlibProvider(CinderManage):
    """One backend with a Cinder driver.

    ``options`` are those of Cinder's configuration for the driver; ``volume_driver`` is required.

    >>> driver = {"volume_driver": "saltstorage.drivers.file.FileDriver",
    ...           "file_driver_path": "/srv/volumes"}
    >>> state = "/var/lib/salt-storage/controller"
    >>> config = BackendConfig(
    ...     name="local", options=driver, state_dir=f"{state}/backends/local",
    ...     database=f"sqlite:///{state}/cinderlib.sqlite",
    ... )
    >>> CinderlibProvider(config).capabilities()  # none before it is loaded
    frozenset()
    """

    def __init__(self, config: BackendConfig) -> None:
        super().__init__(config)
        self._load_lock = threading.Lock()
        self._protocol = ""

    def check(self) -> None:
        """Import the driver and check its options; see the base class."""
        with self._load_lock, map_errors(f"load the backend {self.config.name!r}", default=UnavailableError):
            self._check()

    def _check(self) -> tuple[type[Any], dict[str, Any]]:
        options = dict(self.config.options)
        # Cinder's configuration has a name here, and the project takes the backend's.
        options.pop("volume_backend_name", None)
        return driver_options.check(self.config.name, options), options

    def load(self) -> None:
        """Load the driver and reach the array; see the base class."""
        with self._load_lock, map_errors(f"load the backend {self.config.name!r}", default=UnavailableError):
            if self._loaded is not None:
                return
            driver, options = self._check()
            options = driver_options.add_safe_defaults(driver, options)
            # The class itself: NetApp's unified driver only stands for it.
            path = f"{driver.__module__}.{driver.__qualname__}"
            options["volume_driver"] = REPLACED.get(path, path)
            backend_class = bridge.setup(self.config.database, str(Path(self.config.state_dir).parent))
            # Before the driver, which may look at it once.
            zoning.use(self.config.zoning)
            try:
                loaded = backend_class(self._group, **options)
            except Exception as exc:
                error = _cause(exc)
                missing = packages.find_missing(driver)
                if missing:
                    raise FailedPreconditionError(
                        f"could not load the backend {self.config.name!r}: its driver found no Python package "
                        f"{' or '.join(map(repr, missing))} on the controller: {packages.advise(missing)} ({describe(error)})",
                        details={"packages": missing},
                    ) from None
                raise error from None
            logs.tame()
            reported = loaded.stats()
            try:
                stats.refuse_empty(reported, f"load the backend {self.config.name!r}")
            except UnavailableError:
                backend_class.forget(self._group)
                raise
            self._capabilities = stats.capabilities(loaded.driver, reported)
            self._protocol = stats.protocol(reported)
            zoning.check(self._protocol)
            self._loaded = loaded

    def close(self) -> None:
        """Forget the driver, so that it can be loaded with other options."""
        with self._load_lock:
            loaded, self._loaded = self._loaded, None
            if loaded is not None:
                type(loaded).forget(self._group)

    def capabilities(self) -> frozenset[Capability]:
        """Return the abilities of this backend."""
        return self._capabilities

    def stats(self) -> BackendStats:
        """Return fresh statistics from the array."""
        with map_errors(f"read the statistics of {self.config.name!r}", default=UnavailableError):
            raw = self._backend.stats(refresh=True)
            stats.refuse_empty(raw, f"reach the array of {self.config.name!r}")
            from cinder.db import api

            _count, allocated = api.volume_data_get_for_host(self.context, f"{bridge.HOST}@{self._group}")
            return stats.stats(self.config.name, raw, float(allocated))

    def pools(self) -> Sequence[Pool]:
        """Return fresh statistics of each pool; see the base class."""
        with map_errors(f"read the statistics of {self.config.name!r}", default=UnavailableError):
            from cinder.db import api

            def allocated(pool: str) -> float:
                _count, gib = api.volume_data_get_for_host(self.context, f"{bridge.HOST}@{self._group}#{pool}")
                return float(gib)

            return pools.pools(self._backend.stats(refresh=True), self.driver.configuration, allocated)

    def pool_of(self, volume: ProviderVolume) -> str:
        """Return the pool that the volume's row names."""
        with map_errors(f"look for volume {volume.id}"):
            row = self.find_row(volume.id)
            return "" if row is None else str(row._ovo.host).partition("#")[2]

    def create_volume(self, volume: ProviderVolume, *, source: ProviderVolume | ProviderSnapshot | None = None) -> int:
        """Create a volume, empty or from a source; see the base class."""
        with map_errors(f"create volume {volume.id}"):
            if self._exists("Volume", volume.id):
                raise AlreadyExistsError(f"volume {volume.id} exists in the metadata of backend {self.config.name!r}; delete it first")
            fields: dict[str, Any] = {}
            call: Callable[[Any], Any] = self.driver.create_volume
            if isinstance(source, ProviderSnapshot):
                snapshot = self._need_snapshot(source.id)._ovo
                fields = {"snapshot_id": source.id, "host": snapshot.volume.host}
                call = lambda new: self.driver.create_volume_from_snapshot(new, snapshot)  # noqa: E731
            elif source is not None:
                origin = self.need_row(source.id)._ovo
                fields = {"source_volid": source.id, "host": origin.host}
                call = lambda new: self.driver.create_cloned_volume(new, origin)  # noqa: E731
            row = self._save_new(self._new_volume(volume, **fields), volume)
            try:
                self._update(row, call(row._ovo), status=AVAILABLE)
            except Exception:
                self._discard(row, self.driver.delete_volume, row.persistence.delete_volume)
                raise
            return int(row._ovo.size)

    def delete_volume(self, volume: ProviderVolume) -> bool:
        """Delete a volume, or the remains of a volume, on the backend and in the metadata."""
        with map_errors(f"delete volume {volume.id}"):
            from cinder import utils

            row = self.find_row(volume.id)
            known = row is not None
            if row is None:
                row = self._new_volume(volume)
            else:
                self._keep_secret(row)
                if row.snapshots:
                    raise FailedPreconditionError(f"volume {volume.id} has snapshots; delete them first")
                if row.connections:
                    raise FailedPreconditionError(f"volume {volume.id} is connected; disconnect it first")
            existed = True
            try:
                # As Cinder does: the export of an interrupted disconnect would keep some arrays
                # from deleting.
                self.driver.remove_export(self.context, row._ovo)
            except Exception as error:
                # A missing export says nothing of the volume itself.
                if not is_gone(error):
                    raise
            try:
                self.driver.delete_volume(row._ovo)
            except Exception as error:
                if not is_gone(error):
                    raise
                existed = False
            if known:
                row.persistence.delete_volume(row)
            logs.keep_secrets(volume.id, ())
            # As Cinder's manager does; else a file for each volume would stay for ever.
            utils.clean_volume_file_locks(volume.id, self.driver)
            return known and existed

    def volume_size(self, volume: ProviderVolume) -> int | None:
        """Return the size in the metadata, or None when there is no volume or its creation did not
        end.

        Cinder's driver interface has no call that only looks for a volume.
        """
        with map_errors(f"look for volume {volume.id}"):
            row = self.find_row(volume.id)
            return None if row is None or row._ovo.status == CREATING else int(row._ovo.size)

    def extend_volume(self, volume: ProviderVolume, size: int) -> int:
        """Grow a volume; see the base class."""
        with map_errors(f"extend volume {volume.id} to {size} GiB"):
            row = self.need_row(volume.id)
            if row._ovo.size < size:
                status = IN_USE if row.connections else AVAILABLE
                # Some drivers look at it; it is not saved, so it needs no undoing.
                row._ovo.previous_status, row._ovo.status = status, EXTENDING
                self.driver.extend_volume(row._ovo, size)
                self._update(row, {"size": size, "previous_status": None}, status=status)
            return int(row._ovo.size)

    def create_snapshot(self, snapshot: ProviderSnapshot) -> None:
        """Take a snapshot; see the base class."""
        with map_errors(f"create snapshot {snapshot.id}"):
            if self._exists("Snapshot", snapshot.id):
                raise AlreadyExistsError(f"snapshot {snapshot.id} exists in the metadata of backend {self.config.name!r}; delete it first")
            row = self._new_snapshot(snapshot, self.need_row(snapshot.volume_id))
            row.save()
            try:
                self._update(row, self.driver.create_snapshot(row._ovo), status=AVAILABLE)
            except Exception:
                self._discard(row, self.driver.delete_snapshot, row.persistence.delete_snapshot)
                raise

    def delete_snapshot(self, snapshot: ProviderSnapshot) -> bool:
        """Delete a snapshot, or the remains of a snapshot, on the backend and in the metadata."""
        with map_errors(f"delete snapshot {snapshot.id}"):
            from cinder import utils

            row = self._find_snapshot(snapshot.id)
            known = row is not None
            if row is None:
                volume = self.find_row(snapshot.volume_id)
                if volume is None:
                    return False
                row = self._new_snapshot(snapshot, volume)
            existed = True
            try:
                self.driver.delete_snapshot(row._ovo)
            except Exception as error:
                if not is_gone(error):
                    raise
                existed = False
            if known:
                row.persistence.delete_snapshot(row)
            utils.clean_snapshot_file_locks(snapshot.id, self.driver)
            return known and existed

    def revert_volume(self, volume: ProviderVolume, snapshot: ProviderSnapshot) -> None:
        """Set a volume back to its latest snapshot; see the base class.

        Cinder's manager first takes a snapshot of the present data; here, the caller has confirmed
        that the data may be lost.
        """
        if Capability.REVERT not in self._capabilities:
            super().revert_volume(volume, snapshot)
        with map_errors(f"set volume {volume.id} back to snapshot {snapshot.id}"):
            row, source = self.need_row(volume.id), self._need_snapshot(snapshot.id)
            # Some drivers look at these; they are not saved, so they need no undoing.
            row._ovo.status, source._ovo.status = REVERTING, "restoring"
            self.driver.revert_to_snapshot(self.context, row._ovo, source._ovo)

    def connect(
        self, volume: ProviderVolume, connection_id: str, connector: Mapping[str, Any], *, read_only: bool = False
    ) -> dict[str, Any]:
        """Map a volume to a host and return the way to reach it; see the base class.

        A repeated call asks the driver again, as Cinder's drivers allow: it mends a mapping that
        was lost on the array.
        """
        with map_errors(f"connect volume {volume.id} to {connector.get('host')!r}"):
            from cinder import objects

            row = self.need_row(volume.id)
            self._keep_secret(row)
            self.driver.validate_connector(dict(connector))
            connection = self._find_connection(row, connection_id)
            new = connection is None
            if connection is not None and connection.connector_info != dict(connector):
                # Before the driver is called: it may map the new initiators, and everything mapped
                # must be unmapped one day.
                connection._ovo.connector = dict(connector)
                connection._ovo.connection_info = {**connection._ovo.connection_info, "connector": dict(connector)}
                connection.save()
            if connection is None:
                # Before the driver is called, since drivers count the attachments of a volume.
                connection = self._library.Connection(
                    self._backend,
                    volume=row,
                    id=connection_id,
                    connector=dict(connector),
                    connection_info={"conn": {}, "connector": dict(connector)},
                    attach_status="attaching",
                    attach_mode="ro" if read_only else "rw",
                    attached_host=connector.get("host"),
                )
                connection.save()
                row.connections.append(connection)
                # Not the object of the connection: it refers to the volume, and a driver that saves
                # the volume would follow this circle without end.
                row._ovo.volume_attachment = objects.VolumeAttachmentList.get_all_by_volume_id(self.context, volume.id)
            try:
                self._update(row, self.driver.create_export(self.context, row._ovo, dict(connector)))
                self._keep_secret(row)
                answer = self.driver.initialize_connection(row._ovo, dict(connector))
            except Exception:
                if new:
                    self._undo_connect(row, connection)
                raise
            answer = self._complete(row, answer, read_only=read_only)
            connection._ovo.connection_info = {"conn": answer, "connector": dict(connector)}
            connection._ovo.attach_status = "attached"
            with self._transaction():
                connection.save()
                self._update(row, None, status=IN_USE)
            return answer

    def initiators(self) -> Sequence[str]:
        """Return the initiators that count for the driver's storage protocol; see the base
        class.
        """
        return bound_keys(self._protocol)

    def check_connector(self, connector: Mapping[str, Any]) -> None:
        """Ask the driver whether the host has what its protocol needs; see the base class."""
        with map_errors(f"connect a volume to {connector.get('host')!r}"):
            self.driver.validate_connector(dict(connector))

    def merge_connectors(
        self, volume: ProviderVolume, connection_id: str, before: Mapping[str, Any], connector: Mapping[str, Any]
    ) -> Mapping[str, Any] | None:
        """Return the connector for a repeated connection; see the base class.

        Only the initiators by which drivers of the protocol mask count.
        """
        with map_errors(f"connect volume {volume.id} to {connector.get('host')!r}"):
            # First, so that a host whose initiator cannot be read for once keeps its mapping.
            self.driver.validate_connector(dict(connector))
            row = self.find_row(volume.id)
            connection = self._find_connection(row, connection_id) if row is not None else None
            kind = (connection.conn_info or {}).get("driver_volume_type") if connection is not None else None
            return merge_connectors(before, connector, initiator_keys(kind))

    def disconnect(self, volume: ProviderVolume, connection_id: str, connector: Mapping[str, Any], *, last: bool) -> None:
        """Unmap a volume from a host; see the base class.

        The export stays while the metadata has another connection, or when the driver says that
        the mapping is shared.
        """
        with map_errors(f"disconnect volume {volume.id} from {connector.get('host')!r}"):
            row = self.find_row(volume.id)
            if row is None:
                return
            self._keep_secret(row)
            connection = self._find_connection(row, connection_id)
            if connection is None:
                return
            others = len(row.connections) > 1
            if last and others:
                log.warning("storage: volume %s has connections that the catalog does not know; its export is kept", volume.id)
            self._unmap(row, connection, keep_export=others or not last)
            # Last, so that a repetition does all of it again.
            with self._transaction():
                connection.persistence.delete_connection(connection)
                if not others:
                    self._update(row, None, status=AVAILABLE)
            # Only now: until here an error may have the secret in its text. Afterwards a driver
            # has forgotten it, or uses it again.
            self._keep_secret(row)

    def restore(self, volume: ProviderVolume) -> None:
        """Make the export of a connected volume exist again."""
        with map_errors(f"restore the export of volume {volume.id}"):
            row = self.need_row(volume.id)
            self._keep_secret(row)
            self._update(row, self.driver.ensure_export(self.context, row._ovo))
            self._keep_secret(row)

    def exports_intact(self) -> bool | None:
        """Ask a driver that has targets of its own to look after; see the base class."""
        # Not of the object: some drivers raise NotImplementedError for an attribute they lack.
        if not hasattr(type(self.driver), "exports_intact"):
            return None
        with map_errors(f"look for the exports of backend {self.config.name!r}", default=UnavailableError):
            answer: bool | None = self.driver.exports_intact()
            return answer

    def _unmap(self, row: Any, connection: Any, *, keep_export: bool) -> None:
        try:
            shared = self.driver.terminate_connection(row._ovo, connection.connector_info or connection._ovo.connector, force=False)
            # Drivers answer True when the same mapping serves another attachment, and often
            # nothing.
            if shared is not True and not keep_export:
                self.driver.remove_export(self.context, row._ovo)
        except Exception as error:
            if not is_gone(error):
                raise

    def _undo_connect(self, row: Any, connection: Any) -> None:
        """Undo the mapping of a failed attempt, without touching other hosts; then forget the
        connection.

        The row stays when that fails: the host may have access, and a later :meth:`disconnect`
        needs the row to remove it.
        """
        try:
            self._unmap(row, connection, keep_export=len(row.connections) > 1)
        except Exception as error:
            log.warning("storage: a failed connection of volume %s could not be taken back: %s", row.id, describe(error))
            return
        connection.persistence.delete_connection(connection)

    def _complete(self, row: Any, answer: Any, *, read_only: bool) -> dict[str, Any]:
        """Add the values that Cinder's manager adds to a driver's answer, and make it
        plain data.
        """
        if not isinstance(answer, Mapping) or not isinstance(answer.get("data"), Mapping):
            raise InternalError(f"the driver of backend {self.config.name!r} answered without connection information")
        plain: dict[str, Any] = json.loads(json.dumps(answer, default=str))
        data = plain["data"]
        data["access_mode"] = "ro" if read_only else "rw"
        if data.get("encrypted") is None:
            data["encrypted"] = bool(row._ovo.encryption_key_id)
        if data.get("discard") is None and self.driver.configuration.safe_get("report_discard_supported"):
            data["discard"] = True
        return plain


def _cause(error: BaseException) -> BaseException:
    """Return the reason why a driver could not be set up.

    After any AttributeError in a driver's own code, cinderlib tries a method ``setup``, which
    drivers have no more, and reports that it is missing.
    """
    if isinstance(error, AttributeError) and error.name == "setup" and isinstance(error.__context__, AttributeError):
        return error.__context__
    return error
