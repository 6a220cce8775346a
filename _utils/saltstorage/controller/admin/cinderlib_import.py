"""Takes over volumes and snapshots from the database of another cinderlib, with their ids, so that
nothing on the array changes.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import Any

from ... import model, validate
from ...errors import AlreadyExistsError, InvalidArgumentError, StorageError, UnimplementedError
from ...model import Snapshot, Volume
from ...providers import Capability
from ..catalog import foreign
from ..catalog.foreign import ForeignVolume
from ..operations.core import Caller, Core
from ..operations.volumes import Volumes

log = logging.getLogger(__name__)

#: The columns that a driver may need; the rest is Cinder's bookkeeping.
_VOLUME = ("id", "size", "display_name", "provider_location", "provider_auth", "provider_geometry", "provider_id", "multiattach")
_SNAPSHOT = ("id", "display_name", "provider_location", "provider_auth", "provider_id")


_RENAME = "give others by their ids in names"


class Import:
    """The administrator's import."""

    def __init__(self, core: Core, volumes: Volumes) -> None:
        self.core = core
        self.volumes = volumes

    def run(
        self,
        *,
        url: Any,
        owner: Any,
        backend: Any = None,
        source_backend: Any = None,
        names: Any = None,
        apply: Any = False,
        from_sdb: bool = False,
    ) -> list[dict[str, Any]]:
        """Take over the volumes in a database of cinderlib.

        :param url: SQLAlchemy URL of the database; one with a password must come from ``sdb``.
        :param owner: minion that the volumes will belong to, or ``shared``.
        :param backend: the configured backend that they are on; the default backend if None.
        :param source_backend: name of the backend in the other database; may be None when there is
            only one.
        :param names: their new names, by id; the others keep their names, and those without a name
            get their id.
        :param apply: False only tells the volumes that would be taken over.
        :param from_sdb: whether the URL came from ``sdb``, so that no command line had it.
        :returns: for each volume ``id``, ``name``, ``size``, ``snapshots`` (names) and ``done``;
            with ``reason`` when it is left out, or ``error`` and ``code`` when the take-over
            failed.
        """
        owner = validate.name(owner, "owner")
        apply = validate.boolean(apply, "apply")
        given = validate.mapping(names or {}, "names")
        entry = self.core.config.backend(backend)
        rows = _choose(foreign.read_volumes(self._find_url(url, from_sdb)), source_backend)
        provider = self.core.provider(entry.name)
        if not hasattr(provider, "import_volume"):
            raise UnimplementedError(f"backend {entry.name!r} is not driven by cinderlib", field="backend")
        ids = {f.id for f in provider.list_volumes()} - {""} if Capability.LIST in provider.capabilities() else set()
        answers = []
        taken: set[tuple[str, str]] = set()
        for row in rows:
            volume, snapshots = self._records(row, owner, entry.name, given)
            answer: dict[str, Any] = {"id": volume.id, "name": volume.name, "size": volume.size, "snapshots": [s.name for s in snapshots]}
            reason = self._obstacle(row, volume, snapshots)
            if not reason and ids and volume.id not in ids:
                reason = f"backend {entry.name!r} does not have it: is it the right one?"
            wanted = {("volume", volume.name), *(("snapshot", s.name) for s in snapshots)}
            if not reason and wanted & taken:
                # The catalog learns of it with the take-over, which a dry run does not do.
                reason = f"it or a snapshot of it has the name of another one of this database; {_RENAME}"
            if not reason:
                taken |= wanted
            failed: dict[str, Any] = {}
            if not reason and apply:
                try:
                    self._take_over(provider, row, volume, snapshots)
                except StorageError as error:
                    failed = {"error": str(error), "code": error.code}
            answers.append({**answer, "done": apply and not reason and not failed, **({"reason": reason} if reason else {}), **failed})
        return answers

    def _records(self, row: ForeignVolume, owner: str, backend: str, names: Mapping[str, Any]) -> tuple[Volume, list[Snapshot]]:
        now = time.time()
        volume_id = str(row.values["id"])
        volume = Volume(
            id=volume_id,
            owner=owner,
            name=str(names.get(volume_id) or row.values["display_name"] or volume_id),
            backend=backend,
            size=int(row.values["size"] or 0),
            state=model.ADOPTING,
            source={"kind": model.IMPORTED, "name": volume_id},
            formatted=True,
            encrypted=None,
            created=now,
        )
        return volume, [
            Snapshot(
                id=str(s["id"]),
                owner=owner,
                name=str(names.get(s["id"]) or s["display_name"] or s["id"]),
                volume_id=volume_id,
                volume=volume.name,
                backend=backend,
                size=int(s["volume_size"] or volume.size),
                encrypted=None,
                created=now,
            )
            for s in row.snapshots
        ]

    def _obstacle(self, row: ForeignVolume, volume: Volume, snapshots: list[Snapshot]) -> str:
        """Return why a volume cannot be taken over, or an empty text."""
        catalog = self.core.catalog
        known = catalog.volume_by_id(volume.id)
        if known is not None and known.state != model.ADOPTING:
            return f"it is volume {known.name!r} of {known.owner} already"
        if row.connected or row.values["status"] == "in-use":
            return "it is connected; disconnect it with the program that it belongs to"
        unusable = [r["id"] for r in (row.values, *row.snapshots) if r["status"] != "available"]
        if unusable:
            return f"these are not in the status available: {', '.join(unusable)}"
        if row.values.get("encryption_key_id"):
            return "it is encrypted by Cinder"
        try:
            for name in (volume.name, *(s.name for s in snapshots)):
                validate.name(name)
        except InvalidArgumentError as error:
            return f"{error.message}; give it another by its id in names"
        taken = catalog.volume(volume.owner, volume.name) if known is None else None
        clash = [s.name for s in snapshots if (have := catalog.snapshot(s.owner, s.name)) is not None and have.id != s.id]
        if taken is not None or clash or len({s.name for s in snapshots}) < len(snapshots):
            return f"{volume.owner} has {'snapshots' if clash else 'a volume or snapshots'} of its names; {_RENAME}"
        return ""

    def _take_over(self, provider: Any, row: ForeignVolume, volume: Volume, snapshots: list[Snapshot]) -> None:
        with self.core.held(Caller(), "import", (volume.owner, volume.name)):
            left = self.core.catalog.volume(volume.owner, volume.name)
            if left is not None:
                self.volumes.settle(left)
                if self.core.catalog.volume(volume.owner, volume.name) is not None:
                    if left.id == volume.id:
                        return
                    raise AlreadyExistsError(f"volume {volume.name!r} of {volume.owner} exists by now", field="names")
            self.core.catalog.apply(add=[volume, *snapshots])
            try:
                provider.import_volume(
                    {key: row.values[key] for key in _VOLUME if row.values.get(key) is not None},
                    pool=str(row.values["host"]).partition("#")[2],
                    metadata=row.metadata,
                    admin_metadata=row.admin_metadata,
                    snapshots=[{key: s[key] for key in _SNAPSHOT if s.get(key) is not None} for s in row.snapshots],
                )
            finally:
                self.volumes.settle(volume)
        log.warning("storage: volume %s was imported for %s as %r", volume.id, volume.owner, volume.name)

    def _find_url(self, value: Any, from_sdb: bool) -> str:
        if not isinstance(value, str) or not value:
            raise InvalidArgumentError("url must be an SQLAlchemy URL or an sdb:// URI", field="url")
        return foreign.check_url(value, own=self.core.config.metadata_database, may_have_password=from_sdb)


def _choose(rows: list[ForeignVolume], source_backend: Any) -> list[ForeignVolume]:
    backends = sorted({row.backend for row in rows})
    if source_backend is None:
        if len(backends) > 1:
            raise InvalidArgumentError(
                f"the database has volumes of several backends; name one as source_backend: {', '.join(backends)}", field="source_backend"
            )
        return rows
    if source_backend not in backends:
        raise InvalidArgumentError(
            f"the database has no volumes of backend {source_backend!r}; it has those of {', '.join(backends) or 'none'}",
            field="source_backend",
        )
    return [row for row in rows if row.backend == source_backend]
