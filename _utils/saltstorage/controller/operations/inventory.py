"""What a minion may see, for its state runs: in pages, since the size of an answer is limited and what a minion owns is not."""

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

#: Most bytes of records in a page, as JSON. What else is in the answer must fit below :data:`saltstorage.bus.envelope.MAX_REPLY` too.
PAGE = 384 * 1024


@dataclass(frozen=True, kw_only=True)
class _Part:
    """Records of one kind and one owner or host.

    :ivar key: where they are in the answer.
    :ivar cls: their kind.
    :ivar where: columns and their values.
    :ivar shared: tells of which volumes, by their names; None: of all.
    """

    key: str
    cls: type[Record]
    where: dict[str, str] = field(default_factory=dict)
    shared: Rule | None = None


def page(core: Core, caller: Caller, after: Any) -> dict[str, Any]:
    """Return one page of what a minion may see; see :meth:`saltstorage.controller.service.Service.inventory`.

    :param after: ``more`` of the page before; None for the first.
    :raises InvalidArgumentError: ``after`` is not such a thing.
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
        # One at least, so that the pages come to an end.
        if size > left and left < PAGE:
            more = last
            break
        found[key].append(wire)
        last, left = place, left - size
    states = core.catalog.backend_states()
    names = [n for n in core.config.backends if rule.may_use(n)]
    return {
        **found,
        "backends": {n: _shown(states.get(n)) for n in names},
        "default_backend": core.config.default_backend,
        "types": {n: {"backend": t.backend} for n, t in core.config.types.items() if rule.may_have(n)},
        "retain": rule.may_retain,
        "time": time.time(),
        "more": more,
    }


def _shown(state: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return what minions are told of a backend."""
    if state is None:
        return {"state": "unknown", "retains": None}
    return {"state": state["state"], "retains": Capability.MANAGE in state["capabilities"] if state["state"] == "up" else None}


def _records(core: Core, parts: list[_Part], start: int, after: list[str]) -> Iterator[tuple[str, Any, list[Any]]]:
    """Yield where each record is in the answer, its plain data, and its place, for ``after`` of the next page."""
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

    Which records are seen is decided by the parts alone, so that no place, made up or not, shows what is another minion's.
    """
    if after is None:
        return 0, []
    if isinstance(after, list) and after and type(after[0]) is int and 0 <= after[0] < len(parts):
        number, *place = after
        keys = paging.place_keys(parts[number].cls, parts[number].where)
        if len(place) == len(keys) and all(isinstance(key, str) and _is_text(key) for key in place):
            return number, place
    raise InvalidArgumentError("after must be what the page before has in more", field="after")


def _volume_name(record: Record) -> str:
    return str(getattr(record, "name" if isinstance(record, Volume) else "volume"))


def _is_text(value: str) -> bool:
    try:
        return bool(value.encode("utf-8"))
    except UnicodeEncodeError:
        return False
