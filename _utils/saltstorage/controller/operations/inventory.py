"""The inventory of a minion, for its state runs: in pages, since the size of an answer is limited
and the number of volumes is not.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ... import validate
from ...errors import InvalidArgumentError
from ...model import Connection, Fence, Record, Snapshot, Volume
from ...providers.base import Capability
from ..access.policy import Rule
from ..catalog import paging
from .core import Caller, Core

#: Most bytes of records in a page, as JSON. The rest of the answer must fit below
#: :data:`saltstorage.bus.envelope.MAX_REPLY` too.
PAGE = 384 * 1024


@dataclass(frozen=True, kw_only=True)
class _Part:
    """Records of one kind and one owner or host.

    :ivar key: their key in the answer.
    :ivar cls: their kind.
    :ivar where: columns and their values.
    :ivar shared: the rule that says which shared volumes the minion sees; None: the records are
        not of shared volumes.
    """

    key: str
    cls: type[Record]
    where: dict[str, str] = field(default_factory=dict)
    shared: Rule | None = None


def page(core: Core, caller: Caller, after: Any) -> dict[str, Any]:
    """Return one page of a minion's inventory; see
    :meth:`saltstorage.controller.service.Service.inventory`.

    :param after: ``more`` of the page before; None for the first.
    :raises InvalidArgumentError: ``after`` comes from no page.
    """
    rule = core.rule(caller)
    minion = caller.minion or ""
    parts = [
        _Part(key="volumes", cls=Volume, where={"owner": minion}),
        _Part(key="volumes", cls=Volume, where={"owner": validate.SHARED_OWNER}, shared=rule),
        _Part(key="snapshots", cls=Snapshot, where={"owner": minion}),
        _Part(key="connections", cls=Connection, where={"owner": minion}),
        _Part(key="connections", cls=Connection, where={"owner": validate.SHARED_OWNER}, shared=rule),
        _Part(key="fenced", cls=Fence, where={"host": minion}),
    ]
    found: dict[str, list[Any]] = {part.key: [] for part in parts}
    more: list[Any] | None = None
    last, left = after, PAGE
    for key, wire, place in _records(core, parts, *_place(parts, after)):
        size = len(json.dumps(wire, ensure_ascii=False).encode()) + 1
        # A page has one record at least, so that the pages come to an end.
        if size > left and left < PAGE:
            more = last
            break
        found[key].append(wire)
        last, left = place, left - size
    states = core.catalog.backend_states()
    names = [n for n in core.config.backends if rule.may_use(n)]
    return {
        **found,
        "backends": {n: _show_backend(states.get(n)) for n in names},
        "default_backend": core.config.default_backend,
        "types": {name: {"backends": list(kind.backends)} for name, kind in core.config.types.items() if rule.may_have(name)},
        "retain": rule.may_retain,
        "time": time.time(),
        "more": more,
    }


def _show_backend(state: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return a backend as minions see it."""
    if state is None:
        return {"state": "unknown", "retains": None}
    return {"state": state["state"], "retains": Capability.MANAGE in state["capabilities"] if state["state"] == "up" else None}


def _records(core: Core, parts: list[_Part], start: int, after: list[str]) -> Iterator[tuple[str, Any, list[Any]]]:
    """Yield each record as its key in the answer, its plain data, and its place, for ``after`` of
    the next page.
    """
    for number, part in enumerate(parts):
        if number < start:
            continue
        # The database leaves the others out: of a great many shared volumes, a minion may use few.
        names = None if part.shared is None else part.shared.shared
        for record, place in paging.each(core.catalog, part.cls, names=names, after=after if number == start else (), **part.where):
            if part.shared is not None and not part.shared.may_share(_volume_name(record)):
                continue
            yield part.key, record.ids if isinstance(record, Fence) else record.to_wire(), [number, *place]


def _place(parts: list[_Part], after: Any) -> tuple[int, list[str]]:
    """Return the number of the part, and the place in it, after which a page begins.

    The parts alone decide which records are seen, so that no place, made up or not, shows another
    minion's records.
    """
    if after is None:
        return 0, []
    if isinstance(after, list) and after and type(after[0]) is int and 0 <= after[0] < len(parts):
        number, *place = after
        keys = paging.place_keys(parts[number].cls, parts[number].where)
        if len(place) == len(keys) and all(isinstance(key, str) and _is_text(key) for key in place):
            return number, place
    raise InvalidArgumentError("after must be the value of more in the page before", field="after")


def _volume_name(record: Record) -> str:
    return str(getattr(record, "name" if isinstance(record, Volume) else "volume"))


def _is_text(value: str) -> bool:
    try:
        return bool(value.encode("utf-8"))
    except UnicodeEncodeError:
        return False
