"""Reading the catalog a part at a time, so that neither memory nor an answer grows with it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from ...model import Connection, Fence, Record, Snapshot, Volume
from . import schema
from .catalog import Catalog

if TYPE_CHECKING:
    from sqlalchemy import Table
    from sqlalchemy.sql import ColumnElement

#: Most rows that are read at once, and most values of one list in a statement; databases have limits.
CHUNK = 500

R = TypeVar("R", bound=Record)

_TABLES: dict[type[Record], Table] = {
    Volume: schema.volumes,
    Snapshot: schema.snapshots,
    Connection: schema.connections,
    Fence: schema.fences,
}
#: What each kind is ordered by, and an index has. No two records have the same.
_ORDER: dict[type[Record], tuple[str, ...]] = {
    Volume: ("owner", "name"),
    Snapshot: ("owner", "name"),
    Connection: ("owner", "volume", "host", "id"),
    Fence: ("host", "volume_id"),
}


def each(
    catalog: Catalog, cls: type[R], *conditions: ColumnElement[bool], after: Sequence[str] = (), **where: str
) -> Iterator[tuple[R, tuple[str, ...]]]:
    """Yield records and the place of each in their order, with :data:`CHUNK` of them in memory at most.

    No transaction is open between the reads: of what others write meanwhile, some may be seen.

    :param conditions: more conditions.
    :param after: place of the record after which to go on; default from the first.
    :param where: columns and their values.
    """
    columns = _TABLES[cls].c
    keys = place_keys(cls, where)
    query = _TABLES[cls].select().where(*conditions, *(columns[key] == value for key, value in where.items()))
    query = query.order_by(*(columns[key] for key in keys)).limit(CHUNK)
    while True:
        with catalog.reading() as connection:
            rows = connection.execute(query.where(later([columns[key] for key in keys], after)) if after else query).mappings().all()
        for row in rows:
            after = tuple(row[key] for key in keys)
            yield cls.from_wire(row), after  # type: ignore[arg-type]
        if len(rows) < CHUNK:
            return


def place_keys(cls: type[Record], where: Collection[str]) -> list[str]:
    """Return the columns whose values are the place of a record among those with the same values in the columns ``where``."""
    return [key for key in _ORDER[cls] if key not in where]


def later(columns: Sequence[ColumnElement[Any]], values: Sequence[str]) -> ColumnElement[bool]:
    """Return the condition that a row comes after one with those values, in the order of the columns.

    (Comparing rows as such, some databases do without an index.)
    """
    from sqlalchemy import and_, or_

    column, value = columns[0], values[0]
    if len(columns) == 1:
        return column > value
    # The first part is what lets the index be used.
    return and_(column >= value, or_(column > value, later(columns[1:], values[1:])))


def beginning(column: ColumnElement[Any], globs: Sequence[str]) -> ColumnElement[bool]:
    """Return a condition, which indexes serve, that is true of all that one of the globs matches, and perhaps of more."""
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
