"""The order of the volumes in pillar: as written, but each volume after those that it depends on.

Two rules always hold: a copy comes after its source, and an inner mount point after the outer one.
Three more hold where those two do not forbid it: a source is deleted after its copies, an inner
mount point is left before the outer one, and a mount point is left before another volume takes it.
"""

from __future__ import annotations

import heapq
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

_MAKES = ("present", "connected", "mounted")
_UNMOUNTS = ("unmounted", "disconnected", "absent")
#: The time in the name of a snapshot of a series; see the state ``storage_snapshot.rotated``.
_STAMP = re.compile(r"-[0-9]{8}T[0-9]{6}Z\Z", re.ASCII)


@dataclass
class Entry:
    """A checked entry.

    :ivar name: the volume's name.
    :ivar function: the state function that it becomes.
    :ivar options: the entry as written; also keys that the function does not use.
    """

    name: str
    function: str
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def source(self) -> str | None:
        """The volume that this one is a copy of, or a copy of whose snapshot of its own series."""
        source = self.options.get("source")
        if not isinstance(source, Mapping) or len(source) != 1:
            return None
        ((kind, name),) = source.items()
        if kind == "snapshot" and isinstance(name, str) and _STAMP.search(name):
            return _STAMP.sub("", name)
        return name if kind == "volume" and isinstance(name, str) else None

    @property
    def mount(self) -> str | None:
        """The mount point, when the state mounts or unmounts it."""
        path = self.options.get("mount")
        if self.function not in ("mounted", *_UNMOUNTS) or not isinstance(path, str):
            return None
        # POSIX lets two leading slashes be; Linux has no use for them.
        return re.sub(r"\A/+", "/", os.path.normpath(path))


def conflicts(entries: Sequence[Entry]) -> Iterator[tuple[Entry, str]]:
    """Yield the entries that cannot be applied together with another one, each with the reason.

    Only one volume can be mounted on a mount point.

    >>> a, b = (Entry(name, "mounted", {"mount": "/srv/data"}) for name in "ab")
    >>> [(entry.name, reason) for entry, reason in conflicts([a, b])][0]
    ('a', "mount '/srv/data' is that of 'b' too; give each volume a mount point of its own")
    """
    by_mount: dict[str, list[Entry]] = {}
    for entry in entries:
        if entry.function == "mounted" and entry.mount:
            by_mount.setdefault(entry.mount, []).append(entry)
    for path, same in by_mount.items():
        for entry in same if len(same) > 1 else ():
            others = ", ".join(repr(other.name) for other in same if other is not entry)
            yield entry, f"mount {path!r} is that of {others} too; give each volume a mount point of its own"


def sort(entries: Sequence[Entry]) -> tuple[list[Entry], list[list[Entry]]]:
    """Return the entries in the order in which they are applied, and the rings that others form.

    In a ring, each entry depends on itself and on all others of the ring.

    >>> copy = Entry("b", "present", {"source": {"volume": "a"}})
    >>> [entry.name for entry in sort([copy, Entry("a", "present")])[0]]
    ['a', 'b']
    """
    before: list[set[int]] = [set() for _ in entries]
    for later, earlier in _required(entries):
        before[later].add(earlier)
    rings = _rings(before)
    ringed = {number for ring in rings for number in ring}
    for number in ringed:
        before[number] = set()
    for later, earlier in _wished(entries):
        if later not in ringed and earlier not in ringed and not _leads(before, earlier, later):
            before[later].add(earlier)
    order = [number for number in _topological(before) if number not in ringed]
    return [entries[number] for number in order], [[entries[number] for number in ring] for ring in rings]


def _rings(before: Sequence[set[int]]) -> list[list[int]]:
    """Return the rings, each with the numbers in it; sorted."""
    rings: dict[int, list[int]] = {}
    for number in range(len(before)):
        if _leads(before, number, number):
            first = next((one for one in rings if _leads(before, number, one) and _leads(before, one, number)), number)
            rings.setdefault(first, []).append(number)
    return list(rings.values())


def _required(entries: Sequence[Entry]) -> Iterator[tuple[int, int]]:
    """Yield pairs of numbers: the first entry must come after the second one."""
    by_name = {entry.name: number for number, entry in enumerate(entries) if entry.options.get("owner") != "shared"}
    mounted = {entry.mount: number for number, entry in enumerate(entries) if entry.function == "mounted" and entry.mount}
    for number, entry in enumerate(entries):
        source = by_name.get(entry.source or "")
        if source is not None and entry.function in _MAKES and entries[source].function != "absent":
            yield number, source
        if entry.function == "mounted" and entry.mount:
            yield from ((number, mounted[outer]) for outer in _above(entry.mount) if outer in mounted)


def _wished(entries: Sequence[Entry]) -> Iterator[tuple[int, int]]:
    """Yield the same for what gives way to the required, the more important first."""
    by_name = {entry.name: number for number, entry in enumerate(entries) if entry.options.get("owner") != "shared"}
    for number, entry in enumerate(entries):
        source = by_name.get(entry.source or "")
        if source is not None and entries[source].function == "absent":
            yield source, number
    mounted: dict[str, list[int]] = {}
    unmounted: dict[str, list[int]] = {}
    for number, entry in enumerate(entries):
        if entry.mount:
            (mounted if entry.function == "mounted" else unmounted).setdefault(entry.mount, []).append(number)
    for path, numbers in unmounted.items():
        for number in numbers:
            for above in _above(path):
                yield from ((outer, number) for outer in unmounted.get(above, ()))
            for there in (path, *_above(path)):
                yield from ((taker, number) for taker in mounted.get(there, ()))
    for path, numbers in mounted.items():
        for number in numbers:
            for above in _above(path):
                yield from ((number, leaver) for leaver in unmounted.get(above, ()))


def _above(path: str) -> Iterator[str]:
    while (path := os.path.dirname(path)) != "/" and path:
        yield path


def _leads(before: Sequence[set[int]], start: int, end: int) -> bool:
    """Return whether ``start`` comes after ``end``, by way of others or at once."""
    seen: set[int] = set()
    stack = list(before[start])
    while stack:
        number = stack.pop()
        if number == end:
            return True
        if number not in seen:
            seen.add(number)
            stack += before[number]
    return False


def _topological(before: Sequence[set[int]]) -> Iterator[int]:
    """Yield the numbers, each after those before it, and else the smallest first."""
    after: list[list[int]] = [[] for _ in before]
    open_ = [len(earlier) for earlier in before]
    for number, earlier in enumerate(before):
        for other in earlier:
            after[other].append(number)
    ready = [number for number, count in enumerate(open_) if count == 0]
    while ready:
        number = heapq.heappop(ready)
        yield number
        for other in after[number]:
            open_[other] -= 1
            if open_[other] == 0:
                heapq.heappush(ready, other)
