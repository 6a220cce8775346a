"""Looks for faults in the catalog, on the backends, and between the two. Nothing is changed."""

from __future__ import annotations

import dataclasses
import shlex
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from ... import model, validate
from ...errors import AbortedError, InvalidArgumentError, StorageError
from ...model import Connection, Fence, Record, Snapshot, Volume
from ...providers import Capability, Found, reference_text
from ..access.locks import volume_key
from ..operations import identities
from ..operations.core import Core

R = TypeVar("R", bound=Record)

#: The kinds of findings, with their meaning.
KINDS = {
    "backend": "a backend could not be asked",
    "lost_backend": "records of a backend that is not configured",
    "same_storage": "a volume that two backends have: both are configured over one storage",
    "half_done": "an operation was cut off; a repair finishes or undoes it",
    "error": "a volume or snapshot whose creation or deletion did not end",
    "orphan": "a volume or snapshot on a backend with a name in the project's form, that no record knows",
    "gone": "a record whose volume the backend does not have",
    "resized": "a volume whose size was changed on the backend itself",
    "left_over": "a record of a snapshot or connection whose volume is gone from the catalog",
    "dead_host": "a connection to a minion that has no accepted key",
    "behind": "unreported growth: a volume grew, and the host has not reported the new size",
    "fenced_host": "a fenced host that has not yet confirmed that it removed its stale device",
    "unknown_owner": "a volume whose owner has no accepted key",
    "moved": "the former volume of a move, on its former backend",
    "shared_host": "two minions that an array may take for one host",
    "unattached": "a volume that no host is connected to",
}


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One fault."""

    kind: str  #: One of :data:`KINDS`.
    what: str  #: volume, snapshot, connection, fence, move or backend.
    text: str  #: The fault, and the way to mend it.
    backend: str = ""  #: Backend that it is on.
    owner: str = ""  #: Owner, as far as known.
    name: str = ""  #: Name, as far as known.
    host: str = ""  #: Host of a connection, or the fenced host.
    reference: str = ""  #: The reference of an orphan on its backend, as JSON.
    id: str = ""  #: UUID, by which repair can be told to remove it.
    size: int = 0  #: Size, GiB; 0 when it has no meaning.
    #: The repair's way to mend it; empty when the administrator has to decide by another command.
    repair: str = ""
    named: bool = False  #: Whether repair mends it only when it is given the id.

    def to_wire(self) -> dict[str, Any]:
        """Return the fields that have a value, as plain data."""
        return {key: value for key, value in dataclasses.asdict(self).items() if value or key == "text"}


class Check:
    """One look at everything.

    :param known: tells whether a minion has an accepted key; None: nobody can tell, as without a
        master.
    """

    def __init__(self, core: Core, known: Callable[[str], bool] | None = None) -> None:
        self.core = core
        self._known = known

    def findings(self, *, backend: Any = None, kinds: Any = None) -> list[Finding]:
        """Return the findings.

        :param backend: only on this backend; default on all. A backend's volumes can only be seen
            while it is up.
        :param kinds: only these :data:`KINDS`; default all.
        :raises InvalidArgumentError: there is no such backend or kind.
        """
        names = list(self.core.config.backends) if backend is None else [self.core.config.backend(backend).name]
        wanted = _parse_kinds(kinds)
        volumes = {v.id: v for v in self.core.catalog.volumes()}
        found = [*self._check_records(volumes), *self._check_keys(volumes.values()), *self._check_configured(volumes.values())]
        if wanted & {"orphan", "gone", "backend", "same_storage", "resized"}:
            for name in names:
                found += self._check_backend(name, volumes)
        return [f for f in found if f.kind in wanted and (backend is None or f.backend in ("", *names))]

    def _check_records(self, volumes: dict[str, Volume]) -> Iterator[Finding]:
        catalog = self.core.catalog
        attached = {c.volume_id for c in self._each(Connection)}
        for volume in volumes.values():
            if volume.state != model.AVAILABLE:
                yield from self._describe_unfinished(volume, "volume", volume.state, volume)
            elif volume.id not in attached:
                yield _make_finding(volume, "volume", kind="unattached", text="no host is connected to it")
        for snapshot in self._each(Snapshot):
            # It may have been created since they were read.
            parent = volumes.get(snapshot.volume_id) or catalog.volume_by_id(snapshot.volume_id)
            if parent is None:
                text = f"its volume {snapshot.volume_id} is not in the catalog"
                yield _make_finding(snapshot, "snapshot", kind="left_over", text=text, repair="delete the snapshot", named=True)
            elif snapshot.state != model.AVAILABLE:
                yield from self._describe_unfinished(snapshot, "snapshot", snapshot.state, parent)
        for connection in self._each(Connection):
            volume_of = volumes.get(connection.volume_id) or catalog.volume_by_id(connection.volume_id)
            if volume_of is None:
                text = f"its volume {connection.volume_id} is not in the catalog"
                yield _make_finding(connection, "connection", kind="left_over", text=text, repair="remove the record")
            elif connection.state != model.CONNECTED:
                yield from self._describe_unfinished(connection, "connection", connection.state, volume_of)
            elif volume_of.state == model.AVAILABLE and connection.behind(volume_of):
                text = f"the volume has {volume_of.size} GiB, and {connection.size} GiB there; apply a state for it on {connection.host}"
                yield _make_finding(connection, "connection", kind="behind", text=text, backend=volume_of.backend)
        yield from self._check_hosts()
        for fence in self._each(Fence):
            yield _describe_fence(fence, volumes.get(fence.volume_id) or catalog.volume_by_id(fence.volume_id))
        for move in catalog.moves():
            if move.state == model.COPYING:
                continue  # its volume is `migrating`, and found by that
            text = f"moved to {move.target_backend}; the former volume is kept until salt-run storage.migrate_finish deletes it"
            repair = "delete the former volume" if move.state == model.REMOVING else ""
            yield Finding(
                kind="half_done" if repair else "moved",
                what="move",
                text="its deletion was cut off" if repair else text,
                backend=move.source_backend,
                owner=move.owner,
                name=move.name,
                id=move.source_id,
                size=move.size,
                repair=repair,
            )

    def _check_hosts(self) -> Iterator[Finding]:
        """Find minions with one initiator, or with names at the array that some drivers cut to the
        same one: recorded before both were kept apart.
        """
        seen: dict[tuple[str, str], set[str]] = {}
        for connection in self._each(Connection):
            name = str(connection.connector.get("host") or "")
            keys = [*identities.known_values(connection.connector), *([("name", name.partition(".")[0])] if name else [])]
            for key in keys:
                seen.setdefault(key, set()).add(connection.host)
        for (kind, value), hosts in sorted(seen.items()):
            for host in sorted(hosts)[1:] if len(hosts) > 1 else ():
                what = "name at the array" if kind == "name" else identities.KINDS[kind][0]
                text = (
                    f"{' and '.join(sorted(hosts))} have the same {what}, {value}: an array may let each reach the other's volumes;"
                    f" disconnect the volumes of one of them, give it another {what if kind != 'name' else 'initiator if both have one'},"
                    " and connect them again"
                )
                yield Finding(kind="shared_host", what="connection", text=text, host=host)

    def _describe_unfinished(self, record: Volume | Snapshot | Connection, what: str, state: str, volume: Volume) -> Iterator[Finding]:
        try:
            with self.core.locks.held(volume_key(volume.owner, volume.name), why="a look", timeout=0):
                pass
        except AbortedError:
            return  # another process works on it
        why = getattr(record, "error", "")
        if state == model.ERROR:
            kind, repair = "error", f"remove the remains of the {what}"
        else:
            kind, repair = "half_done", _REPAIRS.get(state, "finish it")
        yield _make_finding(
            record,
            what,
            kind=kind,
            text=f"it is {state} and no process works on it{': ' + why if why else ''}",
            repair=repair,
            backend=volume.backend,
        )

    def _each(self, cls: type[R]) -> Iterator[R]:
        """Yield all records of a kind; those of connections are large, and there may be a hundred
        thousand.
        """
        from ..catalog import paging

        for record, _ in paging.each(self.core.catalog, cls):
            yield record

    def _check_keys(self, volumes: Iterable[Volume]) -> Iterator[Finding]:
        if self._known is None:
            return
        known: dict[str, bool] = {validate.SHARED_OWNER: True}

        def is_known(minion: str) -> bool:
            if minion not in known and self._known is not None:
                known[minion] = self._known(minion)
            return known[minion]

        for volume in volumes:
            if not is_known(volume.owner):
                text = f"{volume.owner} has no accepted key; salt-run storage.give gives it to another, storage.delete deletes it"
                yield _make_finding(volume, "volume", kind="unknown_owner", text=text)
        for connection in self._each(Connection):
            if not is_known(connection.host):
                text = f"{connection.host} has no accepted key; when it is fenced, salt-run storage.disconnect with fenced=True unmaps it"
                volume_of = self.core.catalog.volume_by_id(connection.volume_id)
                yield _make_finding(connection, "connection", kind="dead_host", text=text, backend=volume_of.backend if volume_of else "")

    def _check_configured(self, volumes: Iterable[Volume]) -> Iterator[Finding]:
        lost = Counter(volume.backend for volume in volumes if volume.backend not in self.core.config.backends)
        for name, count in sorted(lost.items()):
            text = (
                f"it is not configured, and {count} volumes are on it; configure it again, or, if the same storage has another name now, "
                f"salt-run storage.rename_backend {shlex.quote(name)} NEW"
            )
            yield Finding(kind="lost_backend", what="backend", text=text, backend=name, name=name)

    def _check_backend(self, name: str, volumes: dict[str, Volume]) -> Iterator[Finding]:
        try:
            provider = self.core.provider(name)
            if Capability.LIST not in provider.capabilities():
                text = "its driver cannot list volumes, so orphans there are not found"
                yield Finding(kind="backend", what="backend", backend=name, name=name, text=text)
                return
            # Listed before the catalog is read again: the catalog then has every volume that is
            # created meanwhile.
            on_backend, snapshots = provider.list_volumes(), provider.list_snapshots()
        except StorageError as error:
            yield Finding(kind="backend", what="backend", backend=name, name=name, text=str(error))
            return
        yield from self._find_orphans(name, on_backend, snapshots)
        there = {f.id for f in on_backend}
        for other in (v for v in volumes.values() if v.id in there and v.backend != name):
            now = self.core.catalog.volume_by_id(other.id)
            # It may have been moved since it was read.
            if now is not None and now.backend not in ("", name):
                text = f"it is on backend {other.backend!r}, and {name!r} has it too: two backends over one storage count its space twice"
                yield _make_finding(other, "volume", kind="same_storage", text=f"{text}; configure one of them only", backend=name)
        mine = [v for v in volumes.values() if v.backend == name and v.state == model.AVAILABLE]
        yield from self._find_resized({f.id: f.size for f in on_backend if f.id}, mine)
        text = "the backend does not list it"
        if mine and not any(v.id in there for v in mine):
            text += ", nor any other of this controller's: look there whether its driver lists them at all"
        for volume in mine:
            now = None if volume.id in there else self.core.catalog.volume_by_id(volume.id)
            # It may have been deleted or moved since it was read.
            if now is not None and (now.backend, now.state) == (name, model.AVAILABLE):
                yield _make_finding(volume, "volume", kind="gone", text=text, repair="remove the record; no data is deleted", named=True)

    def _find_resized(self, sizes: Mapping[str, int], volumes: Iterable[Volume]) -> Iterator[Finding]:
        for volume in volumes:
            size = sizes.get(volume.id, 0)
            now = self.core.catalog.volume_by_id(volume.id) if size not in (0, volume.size) else None
            # It may have grown since it was read.
            if now is None or (now.size, now.state) != (volume.size, model.AVAILABLE):
                continue
            text = f"the backend has {size} GiB, and the catalog {volume.size} GiB: it was changed there"
            if size > volume.size:
                yield _make_finding(volume, "volume", kind="resized", text=text, repair="take the size that the backend has", named=True)
            else:
                text += "; what was beyond is lost, so look at its file system before it is used, and restore it from a copy"
                yield _make_finding(volume, "volume", kind="resized", text=text)

    def _find_orphans(self, name: str, volumes: list[Found], snapshots: list[Found]) -> Iterator[Finding]:
        catalog = self.core.catalog
        moves = catalog.moves()
        recorded = {v.id for v in self._each(Volume)} | {i for m in moves for i in (m.source_id, m.target_id)}
        for what, listed, mine in (("volume", volumes, recorded), ("snapshot", snapshots, {s.id for s in self._each(Snapshot)})):
            for found in listed:
                if found.id and found.id not in mine:
                    text = "no record knows it, so it may be another system's"
                    if what == "volume" and not found.known:
                        text += "; salt-run storage.manage takes it over"
                    yield Finding(
                        kind="orphan",
                        what=what,
                        text=text,
                        backend=name,
                        id=found.id,
                        size=found.size,
                        reference=reference_text(found.reference),
                        repair=f"delete the {what}",
                        named=True,
                    )


_REPAIRS = {
    model.CREATING: "remove its remains",
    model.DELETING: "delete it",
    model.EXTENDING: "take the size that the backend has",
    model.REVERTING: "finish setting the volume back",
    model.CONNECTING: "unmap it",
    model.DISCONNECTING: "unmap it",
    model.ADOPTING: "finish taking it over, or leave it to the backend",
    model.RELEASING: "finish letting it go; no data is deleted",
    model.MIGRATING: "undo the move; the volume stays on its backend",
}


def _make_finding(record: Volume | Snapshot | Connection, what: str, **values: Any) -> Finding:
    if isinstance(record, Connection):
        return Finding(what=what, owner=record.owner, name=record.volume, host=record.host, id=record.id, **values)
    return Finding(what=what, owner=record.owner, name=record.name, id=record.id, size=record.size, **{"backend": record.backend, **values})


def _describe_fence(fence: Fence, volume: Volume | None) -> Finding:
    """Return the finding for a fence.

    :param volume: the fenced volume as it is by now; None when it is gone from the catalog.
    """
    now = ", and it is gone from the catalog" if volume is None else ""
    if volume is not None and (volume.owner, volume.name) != (fence.owner, fence.volume):
        now = f", and it is {volume.name!r} of {volume.owner} by now"
    return Finding(
        kind="fenced_host",
        what="fence",
        text=f"taken from {fence.host} while that was fenced{now}; {fence.host} has not reported yet that its stale device"
        f" is removed, as storage_volume.disconnected of {fence.volume!r} does there",
        backend=volume.backend if volume is not None else "",
        owner=fence.owner,
        name=fence.volume,
        host=fence.host,
        id=fence.id,
        repair="forget it, which is right when the host never comes back or was installed anew; else it may write from its stale device",
        named=True,
    )


def _parse_kinds(value: Any) -> set[str]:
    given = [value] if isinstance(value, str) else list(KINDS) if value is None else value
    if not isinstance(given, list | tuple) or not all(isinstance(kind, str) for kind in given):
        raise InvalidArgumentError("kinds must be a list of texts", field="kinds")
    for kind in given:
        if kind not in KINDS:
            raise InvalidArgumentError(f"there is no kind {kind!r}; known: {', '.join(KINDS)}", field="kinds")
    return set(given)
