"""Volumes of a Cinder backend besides the provider's own: listing them, taking them over, letting
them go.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ...errors import AlreadyExistsError, FailedPreconditionError
from ...model import AVAILABLE
from ...providers import Capability, Found, ProviderVolume
from . import bridge, logs
from .errors import map_errors
from .rows import CinderRows, group_name

_UUID = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}")
#: Entries that are asked for at once; drivers page, but Cinder has them sort everything for each
#: page.
_ALL = 2**31


class CinderManage(CinderRows):
    """The part of the provider that looks beyond its own rows.

    A listing comes from Cinder's ``get_manageable_volumes``, which gets all rows of the backend
    and answers with everything on the array
    (https://docs.openstack.org/cinder/latest/contributor/drivers.html#managing-existing-volumes).
    """

    def list_volumes(self) -> list[Found]:
        """Return every volume of the backend; see the base class."""
        if Capability.LIST not in self._capabilities:
            return super().list_volumes()
        with map_errors(f"list the volumes of {self.config.name!r}"):
            from cinder import objects

            rows = objects.VolumeList.get_all_by_host(self.context, f"{bridge.HOST}@{self._group}")
            return self._list(self.driver.get_manageable_volumes, rows, "volume-")

    def list_snapshots(self) -> list[Found]:
        """Return every snapshot of the backend, as far as its driver lists them; see the base
        class.
        """
        with map_errors(f"list the snapshots of {self.config.name!r}"):
            from cinder import objects

            rows = objects.SnapshotList.get_all(self.context, filters={"host": f"{bridge.HOST}@{self._group}"})
            try:
                return self._list(self.driver.get_manageable_snapshots, rows, "snapshot-")
            except NotImplementedError:
                return []

    def manage_volume(self, volume: ProviderVolume, reference: Mapping[str, Any]) -> int:
        """Take over a volume of the backend; see the base class. Most drivers rename it to
        ``volume-<id>``.
        """
        if Capability.MANAGE not in self._capabilities:
            return super().manage_volume(volume, reference)
        with map_errors(f"take over {dict(reference)!r} as volume {volume.id}"):
            row = self.find_row(volume.id)
            if row is not None and row._ovo.status == AVAILABLE:
                return int(row._ovo.size)
            known = self._find_known(reference)
            if known and known != volume.id:
                raise AlreadyExistsError(f"{dict(reference)!r} is volume {known} of backend {self.config.name!r} already")
            if row is None:
                row = self._new_volume(volume)
                row.save()
            self._take_over(row, dict(reference))
            return int(row._ovo.size)

    def unmanage_volume(self, volume: ProviderVolume) -> str:
        """Forget a volume; see the base class."""
        with map_errors(f"let go of volume {volume.id}"):
            row = self.find_row(volume.id)
            if row is None:
                return ""
            if row.connections:
                raise FailedPreconditionError(f"volume {volume.id} is connected; disconnect it first")
            name = str(row._ovo.name)
            if row._ovo.status == AVAILABLE:
                self.driver.unmanage(row._ovo)
            # Read before: SQLite refuses at once to write in a transaction that began with
            # reading, when another process has written since.
            snapshots = list(row.snapshots)
            with self._transaction():
                for snapshot in snapshots:
                    snapshot.persistence.delete_snapshot(snapshot)
                row.persistence.delete_volume(row)
            logs.keep_secrets(volume.id, ())
            return name

    def take_state(self, former: str) -> None:
        """Take over the files of exports; see the base class."""
        folder = self.driver.configuration.safe_get("volumes_dir")
        if not folder:
            return
        source, target = Path(folder, group_name(former)), Path(folder, self._group)
        if source.is_dir():
            target.mkdir(mode=0o700, exist_ok=True)
            for path in source.iterdir():
                if not (target / path.name).exists():
                    path.rename(target / path.name)

    def take_metadata(self, volume: ProviderVolume, former: str) -> None:
        """Rename the backend in a volume's row; see the base class."""
        with map_errors(f"rename the backend of volume {volume.id}"):
            row = self.find_row(volume.id)
            if row is None:
                return
            backend, _, pool = str(row._ovo.host).partition("#")
            group = group_name(former)
            if backend == f"{bridge.HOST}@{group}":
                # A driver without pools has one of the backend's name.
                pool = self._group if pool == group else pool
                from cinder.db import api

                with self._transaction():
                    api.volume_update(self.context, volume.id, {"host": f"{bridge.HOST}@{self._group}#{pool}"})
                    for snapshot in api.snapshot_get_all_for_volume(self.context, volume.id):
                        # cinderlib keeps the backend's name here.
                        api.snapshot_update(self.context, snapshot.id, {self._library.objects.BACKEND_NAME_SNAPSHOT_FIELD: self._group})

    def take_size(self, volume: ProviderVolume, size: int) -> None:
        """Write a volume's size into its row; see the base class."""
        with map_errors(f"note the size of volume {volume.id}"):
            self._update(self.need_row(volume.id), {"size": size})

    def import_volume(
        self,
        values: Mapping[str, Any],
        *,
        pool: str,
        metadata: Mapping[str, str],
        admin_metadata: Mapping[str, str],
        snapshots: Sequence[Mapping[str, Any]],
    ) -> None:
        """Write the rows of a volume and its snapshots that another cinderlib made on this
        backend: all of them, or none.

        :param values: values of the volume's row: ``id`` and ``size`` and the values that the
            driver had returned.
        :param pool: the volume's pool; empty when the row named none.
        :param snapshots: values of the rows of its snapshots.
        """
        with map_errors(f"import volume {values['id']}"), self._transaction():
            host = f"{bridge.HOST}@{self._group}#{pool or self._backend.pool_names[0]}"
            fields = {**values, "host": host, "status": AVAILABLE, "metadata": dict(metadata), "admin_metadata": dict(admin_metadata)}
            row = self._library.Volume(self._backend, **fields)
            row.save()
            for snapshot in snapshots:
                self._library.Snapshot(row, **{**snapshot, "status": AVAILABLE}).save()

    def _take_over(self, row: Any, reference: dict[str, Any]) -> None:
        from cinder import exception

        try:
            size = int(self.driver.manage_existing_get_size(row._ovo, reference))
        except exception.ManageExistingInvalidReference:
            # An interrupted attempt may have renamed it already.
            if "source-name" not in reference or reference["source-name"] == row._ovo.name:
                raise
            size = int(self.driver.manage_existing_get_size(row._ovo, {**reference, "source-name": row._ovo.name}))
            self._update(row, {"size": size}, status=AVAILABLE)
            return
        row._ovo.size = size
        changes = self.driver.manage_existing(row._ovo, reference)
        self._update(row, {**(changes or {}), "size": size}, status=AVAILABLE)

    def _find_known(self, reference: Mapping[str, Any]) -> str:
        """Return the id of the row that a reference means, or an empty text."""
        if Capability.LIST in self._capabilities:
            for found in self.list_volumes():
                if found.known and dict(found.reference) == dict(reference):
                    return found.id
            return ""
        # The best guess without a list: names have the id in them unless the driver has names of
        # its own.
        ids = [match for value in reference.values() for match in _UUID.findall(str(value))]
        return next((row_id for row_id in ids if self._exists("Volume", row_id)), "")

    def _list(self, ask: Callable[..., Any], rows: Any, prefix: str) -> list[Found]:
        known = {str(row.id) for row in rows}
        answer = ask(list(rows), None, _ALL, 0, ["size"], ["asc"])
        found = []
        for entry in answer or []:
            reference = dict(entry.get("reference") or {})
            row_id = str(entry.get("cinder_id") or "")
            try:
                size = int(entry.get("size") or 0)
            except (TypeError, ValueError):
                size = 0
            found.append(
                Found(
                    reference=reference,
                    size=size,
                    id=row_id or _find_uuid(reference, prefix),
                    known=row_id in known,
                    obstacle="" if entry.get("safe_to_manage") else str(entry.get("reason_not_safe") or "the driver does not say why"),
                    source=entry.get("source_reference"),
                )
            )
        return sorted(found, key=lambda entry: str(sorted(entry.reference.items())))


def _find_uuid(reference: Mapping[str, Any], prefix: str) -> str:
    """Return the UUID in a name of Cinder's form, or an empty text."""
    for value in reference.values():
        if isinstance(value, str) and prefix in value:
            match = _UUID.search(value, value.index(prefix) + len(prefix))
            if match and match.start() == value.index(prefix) + len(prefix):
                return match.group()
    return ""
