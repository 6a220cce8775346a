"""Reads the catalog in parts, so that neither memory nor an answer grows with the catalog."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from ...model import Connection, Fence, Record, Snapshot, Volume
from . import schema
from .catalog import Catalog

if TYPE_CHECKING:
    from sqlalchemy import Table
    from sqlalchemy.sql import ColumnElement

#: Most rows that are read at once, and most values of one list in a statement: databases have
#: limits.
CHUNK = 500

R = TypeVar("R", bound=Record)

_TABLES: dict[type[Record], Table] = {
    Volume: schema.volumes,
    Snapshot: schema.snapshots,
    Connection: schema.connections,
    Fence: schema.fences,
}
#: The order of each kind, which an index has. No two records have the same values.
_ORDER: dict[type[Record], tuple[str, ...]] = {
    Volume: ("owner", "name"),
    Snapshot: ("owner", "name"),
    Connection: ("owner", "volume", "host", "id"),
    Fence: ("host", "volume_id"),
}
#: The column with the name of the volume.
_NAMES: dict[type[Record], str] = {Volume: "name", Connection: "volume"}


def each(
    catalog: Catalog,
    cls: type[R],
    *conditions: ColumnElement[bool],
    names: Sequence[str] | None = None,
    after: Sequence[str] = (),
    **where: str,
) -> Iterator[tuple[R, tuple[str, ...]]]:
    """Yield records and the place of each in their order, with :data:`CHUNK` of them in memory at
    most.

    No transaction is open between the reads, so some of the records that others write meanwhile
    may be seen.

    :param conditions: more conditions, for callers in this room.
    :param names: globs of volume names. The database leaves out most of the other volumes; the
        caller checks the name of each record that it gets. None: any name.
    :param after: place of the record after which to go on; default from the first.
    :param where: columns and their values.
    """
    columns = _TABLES[cls].c
    keys = place_keys(cls, where)
    if names is not None:
        conditions = (*conditions, may_match(columns[_NAMES[cls]], names))
    query = _TABLES[cls].select().where(*conditions, *(columns[key] == value for key, value in where.items()))
    query = query.order_by(*(columns[key] for key in keys)).limit(CHUNK)
    while True:
        with catalog.reading() as connection:
            rows = connection.execute(query.where(is_after([columns[key] for key in keys], after)) if after else query).mappings().all()
        for row in rows:
            after = tuple(row[key] for key in keys)
            yield cls.from_wire(row), after  # type: ignore[arg-type]
        if len(rows) < CHUNK:
            return


def place_keys(cls: type[Record], where: Collection[str]) -> list[str]:
    """Return the columns that give the place of a record among those with the same values in
    ``where``.
    """
    return [key for key in _ORDER[cls] if key not in where]


def is_after(columns: Sequence[ColumnElement[Any]], values: Sequence[str]) -> ColumnElement[bool]:
    """Return the condition that a row comes after the row with those values, in the order of the
    columns.

    (Some databases do without an index when whole rows are compared.)
    """
    from sqlalchemy import and_, or_

    column, value = columns[0], values[0]
    if len(columns) == 1:
        return column > value
    # The first part lets the database use the index.
    return and_(column >= value, or_(column > value, is_after(columns[1:], values[1:])))


def may_match(column: ColumnElement[Any], globs: Sequence[str]) -> ColumnElement[bool]:
    """Return a condition, which indexes serve, that is true for every match of the globs, and
    perhaps for more.
    """
    from sqlalchemy import and_, false, or_, true

    conditions: list[ColumnElement[bool]] = []
    for glob in globs:
        fixed = glob[: next((i for i, char in enumerate(glob) if char in "*?["), len(glob))]
        if fixed == glob:
            conditions.append(column == glob)
        elif fixed:
            conditions.append(and_(column >= fixed, column < fixed + chr(0x10FFFF)))
        else:
            return true()
    return or_(false(), *conditions)
