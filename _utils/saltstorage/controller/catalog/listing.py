"""Finds volumes by filters and in pages; the database does the work with its indexes, however many
volumes there are.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ... import model, validate
from ...errors import InvalidArgumentError
from ...model import Volume
from . import paging, schema
from .catalog import Catalog

if TYPE_CHECKING:
    from sqlalchemy import Select
    from sqlalchemy.engine import Connection as SqlConnection


@dataclass(frozen=True, kw_only=True)
class Filter:
    """The volumes that a person asks for; None is any.

    :ivar owner: minion id or ``shared``; may be a glob.
    :ivar backend: name of a backend.
    :ivar state: state of the volume.
    :ivar type: name of a type.
    :ivar host: minion that it is connected to.
    :ivar labels: labels that it has; a value of None takes any value.
    :ivar limit: most volumes to return.
    :ivar after: ``(owner, name)`` of the volume after which to go on.
    """

    owner: str | None = None
    backend: str | None = None
    state: str | None = None
    type: str | None = None
    host: str | None = None
    labels: Mapping[str, str | None] = field(default_factory=dict)
    limit: int | None = None
    after: tuple[str, str] | None = None

    @classmethod
    def from_user(cls, *, labels: Any = None, limit: Any = None, after: Any = None, **equal: Any) -> Filter:
        """Return the filter for a person's words.

        :param labels: a mapping, or ``KEY=VALUE,KEY``.
        :param after: ``OWNER/NAME``.
        :raises InvalidArgumentError: a value is wrong; ``field`` names it.

        >>> Filter.from_user(labels="env=prod,tier").labels
        {'env': 'prod', 'tier': None}
        """
        for key, value in equal.items():
            if value is not None:
                validate.name(value, key)
        if equal.get("state") not in (None, *model.VOLUME_STATES):
            raise InvalidArgumentError(f"there is no state {equal['state']!r}; one of {', '.join(model.VOLUME_STATES)}", field="state")
        if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 1):
            raise InvalidArgumentError(f"limit must be a whole number of at least 1, not {limit!r}", field="limit")
        return cls(labels=_parse_labels(labels), limit=limit, after=_parse_after(after), **equal)


def find(catalog: Catalog, wanted: Filter) -> list[tuple[Volume, list[str]]]:
    """Return volumes, each with the hosts that it is connected to, by owner and name."""
    from sqlalchemy import select

    found: list[Volume] = []
    with catalog.reading() as connection:
        for owners in _match_owners(connection, wanted):
            query = build_query(wanted, owners)
            if wanted.limit is not None:
                query = query.limit(wanted.limit - len(found))
            found += [Volume.from_wire(row) for row in connection.execute(query).mappings()]  # type: ignore[arg-type]
            if len(found) == wanted.limit:
                break
        hosts: dict[str, list[str]] = {}
        table = schema.connections.c
        for ids in _split([volume.id for volume in found]):
            for volume_id, host in connection.execute(
                select(table.volume_id, table.host).where(table.volume_id.in_(ids)).order_by(table.host)
            ):
                hosts.setdefault(volume_id, []).append(host)
    return [(volume, hosts.get(volume.id, [])) for volume in found]


def find_connected(catalog: Catalog, backend: str) -> Iterator[Volume]:
    """Yield the volumes on a backend that a host is connected to, a part at a time."""
    table = schema.connections.c
    connected = schema.connections.select().where(table.volume_id == schema.volumes.c.id, table.state == model.CONNECTED).exists()
    for volume, _ in paging.each(catalog, Volume, connected, backend=backend):
        yield volume


def find_copies(catalog: Catalog, volume_id: str) -> list[Volume]:
    """Return the volumes that were made from a volume.

    No index has the source, so the database looks at each row.
    """
    source = schema.volumes.c.source["id"].as_string()
    return [found for found, _ in paging.each(catalog, Volume, source == volume_id)]


def build_query(wanted: Filter, owners: list[str] | None) -> Select[Any]:
    """Return the statement that finds the volumes of a filter, perhaps of some owners only."""
    from sqlalchemy import and_, select

    table = schema.volumes.c
    query = select(schema.volumes).order_by(table.owner, table.name)
    if owners is not None:
        query = query.where(table.owner.in_(owners) if len(owners) != 1 else table.owner == owners[0])
    for key in ("backend", "state", "type"):
        if (value := getattr(wanted, key)) is not None:
            query = query.where(table[key] == value)
    if wanted.host is not None:
        connected = schema.connections.c
        query = query.where(table.id.in_(select(connected.volume_id).where(connected.host == wanted.host)))
    for key, value in wanted.labels.items():
        labels = schema.labels.c
        having = labels.key == key if value is None else and_(labels.key == key, labels.value == value)
        query = query.where(table.id.in_(select(labels.volume_id).where(having)))
    if wanted.after is not None:
        query = query.where(paging.is_after((table.owner, table.name), wanted.after))
    return query


def _match_owners(connection: SqlConnection, wanted: Filter) -> Iterator[list[str] | None]:
    """Yield the owners that a glob matches, some at a time and in the database's order; None
    stands for any owner.
    """
    from sqlalchemy import select

    if wanted.owner is None or wanted.owner == "*":
        yield None
    elif not any(char in wanted.owner for char in "*?["):
        yield [wanted.owner]
    else:
        owner = schema.volumes.c.owner
        query = select(owner).distinct().where(paging.may_match(owner, [wanted.owner])).order_by(owner)
        found = [value for value in connection.execute(query).scalars() if fnmatch.fnmatchcase(value, wanted.owner)]
        yield from _split(found)


def _split(values: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(values), paging.CHUNK):
        yield values[start : start + paging.CHUNK]


def _parse_labels(value: Any) -> dict[str, str | None]:
    if value is None:
        return {}
    if isinstance(value, str):
        parts = [part.partition("=") for part in value.split(",")]
        found: dict[str, str | None] = {key.strip(): text if sign else None for key, sign, text in parts}
    else:
        found = validate.mapping(value, "labels")
    validate.labels({key: "" if text is None else text for key, text in found.items()})
    return found


def _parse_after(value: Any) -> tuple[str, str] | None:
    if value is None:
        return None
    owner, sign, name = value.partition("/") if isinstance(value, str) else ("", "", "")
    if not sign:
        raise InvalidArgumentError("after must be OWNER/NAME of the last volume seen", field="after")
    return validate.name(owner, "after"), validate.name(name, "after")
