"""The controller's database of volumes, snapshots and connections.

Each method is one transaction, on the disk when it returns. The service decides which writes are
allowed when.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from ...errors import AlreadyExistsError, InternalError, UnavailableError
from ...model import Connection, Fence, Initiator, Move, Record, Reservation, Snapshot, Volume
from .database import open_database

if TYPE_CHECKING:
    from sqlalchemy import Connection as SqlConnection
    from sqlalchemy import Table
    from sqlalchemy.sql import ColumnElement

R = TypeVar("R", bound=Record)
#: The order of the records of a class; of all others it is owner and name.
_ORDER: Mapping[type[Record], tuple[str, ...]] = {
    Connection: ("owner", "volume", "host"),
    Fence: ("volume_id", "host"),
    Initiator: ("minion", "kind", "value"),
    Reservation: ("created",),
}


class Catalog:
    """The catalog at an SQLAlchemy URL.

    :param url: its place; an SQLite file is created when it does not exist.
    :raises StorageError: for the reasons of
        :func:`~saltstorage.controller.catalog.database.open_database`.
    """

    def __init__(self, url: str) -> None:
        from . import schema

        self.engine = open_database(url)
        self._tables: dict[type[Record], Table] = {
            Volume: schema.volumes,
            Snapshot: schema.snapshots,
            Connection: schema.connections,
            Fence: schema.fences,
            Move: schema.moves,
            Initiator: schema.initiators,
            Reservation: schema.reservations,
        }

    def close(self) -> None:
        """Close all connections to the database."""
        self.engine.dispose()

    def volume(self, owner: str, name: str) -> Volume | None:
        """Return the volume of that identity, or None."""
        return self._one(Volume, owner=owner, name=name)

    def volume_by_id(self, volume_id: str) -> Volume | None:
        """Return the volume of that id, or None."""
        return self._one(Volume, id=volume_id)

    def volumes(self, **where: Any) -> list[Volume]:
        """Return the volumes with those values, such as ``owner``, ``backend`` or ``state``, by
        owner and name.
        """
        return self._all(Volume, where)

    def snapshot(self, owner: str, name: str) -> Snapshot | None:
        """Return the snapshot of that identity, or None."""
        return self._one(Snapshot, owner=owner, name=name)

    def snapshots(self, **where: Any) -> list[Snapshot]:
        """Return the snapshots with those values, by owner and name."""
        return self._all(Snapshot, where)

    def connection(self, volume_id: str, host: str) -> Connection | None:
        """Return the connection of a volume to a host, or None."""
        return self._one(Connection, volume_id=volume_id, host=host)

    def connections(self, **where: Any) -> list[Connection]:
        """Return the connections with those values, by owner and volume."""
        return self._all(Connection, where)

    def fence(self, volume_id: str, host: str) -> Fence | None:
        """Return the fence of a volume on a host, or None.

        A fence says that the host was cut off from the volume and has not yet confirmed that it
        let go of it.
        """
        return self._one(Fence, volume_id=volume_id, host=host)

    def fences(self, **where: Any) -> list[Fence]:
        """Return the fences with those values, such as ``host`` or ``volume_id``."""
        return self._all(Fence, where)

    def initiators(self, **where: Any) -> list[Initiator]:
        """Return the initiators with those values, such as ``minion`` or ``value``, by minion."""
        return self._all(Initiator, where)

    def moves(self, **where: Any) -> list[Move]:
        """Return the moves of volumes between backends that are not finished, by owner
        and name.
        """
        return self._all(Move, where)

    def reservations(self, **where: Any) -> list[Reservation]:
        """Return the promises of space with those values, such as ``backend``, oldest first."""
        return self._all(Reservation, where)

    def usage(self, owner: str) -> tuple[int, int]:
        """Return the number of an owner's volumes and the GiB that the owner uses.

        Snapshots count with the size that their volume had.
        """
        from sqlalchemy import func, select

        found = []
        with self.reading() as connection:
            for table in (self._tables[Volume], self._tables[Snapshot]):
                query = select(func.count(), func.coalesce(func.sum(table.c.size), 0)).where(table.c.owner == owner)
                found.append(connection.execute(query).one())
        (volumes, gib), (_, snapshots_gib) = found
        return int(volumes), int(gib) + int(snapshots_gib)

    def allocated(self, backend: str) -> int:
        """Return the GiB of all volumes on a backend."""
        from sqlalchemy import func, select

        table = self._tables[Volume]
        with self.reading() as connection:
            return int(connection.execute(select(func.coalesce(func.sum(table.c.size), 0)).where(table.c.backend == backend)).scalar_one())

    def add(self, record: Volume | Snapshot | Connection | Fence | Move | Reservation) -> None:
        """Insert a record; the unique index refuses a second record of the same identity.

        :raises InternalError: the identity exists; the service checks that first, under a lock.
        """
        from sqlalchemy import exc

        try:
            with self._writing() as connection:
                self._insert(connection, record)
        except exc.IntegrityError:
            raise InternalError(f"the catalog has a {type(record).__name__.lower()} of this identity already: {record}") from None

    def update(self, record: R, **changes: Any) -> R:
        """Change some values of a record and return it as it is now."""
        with self._writing() as connection:
            self._change(connection, record, changes)
        return type(record).from_wire({**record.to_wire(), **{f: getattr(record, f) for f in record.private}, **changes})

    def remove(self, record: Volume | Snapshot | Connection | Fence | Move | Initiator | Reservation) -> None:
        """Delete a record."""
        with self._writing() as connection:
            self._delete(connection, record)

    def apply(
        self,
        *,
        add: Iterable[Record] = (),
        update: Iterable[tuple[Record, Mapping[str, Any]]] = (),
        remove: Iterable[Record] = (),
    ) -> None:
        """Carry out several writes as one: all or none.

        :param update: records, each with its changes.
        :raises AlreadyExistsError: an identity is taken by now.
        """
        from sqlalchemy import exc

        try:
            with self._writing() as connection:
                for record in remove:
                    self._delete(connection, record)
                for record, changes in update:
                    self._change(connection, record, changes)
                for record in add:
                    self._insert(connection, record)
        except exc.IntegrityError:
            raise AlreadyExistsError("the catalog has a volume or snapshot of this name for this owner already", field="name") from None

    # The engine's view of the backends, for readers that load no driver.

    def set_backend_state(self, name: str, state: str, *, error: str = "", capabilities: Iterable[str] = ()) -> None:
        """Record whether a backend is up, and the reason if it is not."""
        from . import schema

        row = {"name": name, "state": state, "error": error, "capabilities": sorted(capabilities), "checked": time.time()}
        with self._writing() as connection:
            connection.execute(schema.backends.delete().where(schema.backends.c.name == name))
            connection.execute(schema.backends.insert().values(**row))

    def backend_states(self) -> dict[str, dict[str, Any]]:
        """Return the last recorded state of each backend: ``state``, ``error``, ``capabilities``,
        ``checked`` (seconds).
        """
        from . import schema

        with self.reading() as connection:
            return {row["name"]: dict(row) for row in connection.execute(schema.backends.select()).mappings()}

    @contextlib.contextmanager
    def reading(self) -> Iterator[SqlConnection]:
        """Yield a connection to the database for statements that only read."""
        with _map_db_errors(), self.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            yield connection

    @contextlib.contextmanager
    def _writing(self) -> Iterator[SqlConnection]:
        with _map_db_errors(), self.engine.begin() as connection:
            yield connection

    def _insert(self, connection: SqlConnection, record: Record) -> None:
        values = {column.name: getattr(record, column.name) for column in self._tables[type(record)].c}
        connection.execute(self._tables[type(record)].insert().values(**values))
        _index_labels(connection, record, values)

    def _change(self, connection: SqlConnection, record: Record, changes: Mapping[str, Any]) -> None:
        table = self._tables[type(record)]
        connection.execute(table.update().where(table.c.id == record.id).values(**changes))  # type: ignore[attr-defined]
        _index_labels(connection, record, changes)

    def _delete(self, connection: SqlConnection, record: Record) -> None:
        table = self._tables[type(record)]
        connection.execute(table.delete().where(table.c.id == record.id))  # type: ignore[attr-defined]
        _index_labels(connection, record, {"labels": {}})

    def _where(self, cls: type[Record], where: dict[str, Any]) -> list[ColumnElement[bool]]:
        columns = self._tables[cls].c
        return [columns[key].in_(value) if isinstance(value, list | tuple) else columns[key] == value for key, value in where.items()]

    def _all(self, cls: type[R], where: dict[str, Any]) -> list[R]:
        table = self._tables[cls]
        order = _ORDER.get(cls, ("owner", "name"))
        query = table.select().where(*self._where(cls, where)).order_by(*(table.c[name] for name in order))
        with self.reading() as connection:
            return [cls.from_wire(row) for row in connection.execute(query).mappings()]  # type: ignore[arg-type]

    def _one(self, cls: type[R], **where: Any) -> R | None:
        found = self._all(cls, where)
        # The unique index prevents it; if it ever happens, no code may pick one.
        if len(found) > 1:
            raise InternalError(f"the catalog has several records for {where}: {', '.join(r.id for r in found)}")  # type: ignore[attr-defined]
        return found[0] if found else None


def _index_labels(connection: SqlConnection, record: Record, changes: Mapping[str, Any]) -> None:
    """Keep the index of labels equal to the volume's row, in the transaction that
    writes the row.
    """
    from . import schema

    if not isinstance(record, Volume) or not changes.keys() & {"id", "labels"}:
        return
    connection.execute(schema.labels.delete().where(schema.labels.c.volume_id == record.id))
    labels = changes.get("labels", record.labels)
    if labels:
        volume_id = changes.get("id", record.id)
        rows = [{"volume_id": volume_id, "key": key, "value": value} for key, value in labels.items()]
        connection.execute(schema.labels.insert(), rows)


@contextlib.contextmanager
def _map_db_errors() -> Iterator[None]:
    """Raise UnavailableError for a database that cannot be used: full disk, lost connection,
    locked for too long.
    """
    from sqlalchemy import exc

    try:
        yield
    except exc.OperationalError as error:
        raise UnavailableError(f"the catalog's database cannot be used: {type(error.orig).__name__}: {error.orig}") from None
