"""Ranges of numbers in the names of entries: ``osd-{01..12}`` stands for twelve volumes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from .. import validate
from ..consumer import passphrase
from ..errors import InvalidArgumentError

#: Most volumes that one entry can stand for: a mistyped range must not fill an array.
MAX_RANGE = 1000
#: A range of numbers in the name of an entry, which stands for as many volumes.
_RANGE = re.compile(r"\{([0-9]{1,6})\.\.([0-9]{1,6})\}", re.ASCII)
#: Text that is meant as a range most likely, and is none.
_NEARLY = re.compile(r"\{\s*([0-9]{1,6})\s*(?:-|\.{1,4}|…|:|to)\s*([0-9]{1,6})\s*\}", re.ASCII)


def find(value: Any) -> list[tuple[str, str, str]]:
    """Return the ranges in a text: as written, first, last.

    >>> find("osd-{01..12}")
    [('{01..12}', '01', '12')]
    """
    return [(match[0], match[1], match[2]) for match in _RANGE.finditer(value)] if isinstance(value, str) else []


def refuse_nearly(name: Any, where: str) -> None:
    """Refuse a name with a range in another form, which would be one volume of that very name.

    :param where: the entry's place in pillar.
    :raises InvalidArgumentError: with the right form.

    >>> refuse_nearly("d{1-3}", "d")
    Traceback (most recent call last):
    saltstorage.errors.InvalidArgumentError: INVALID_ARGUMENT: d: {1-3} is no range; write {1..3}
    """
    match = _NEARLY.search(_RANGE.sub("", name)) if isinstance(name, str) else None
    if match:
        raise InvalidArgumentError(f"{where}: {match[0]} is no range; write {{{match[1]}..{match[2]}}}", field="name")


def expand(name: Any, entry: Any, taken: set[Any]) -> list[tuple[Any, Any]]:
    """Return the volumes that an entry stands for, each with its own entry.

    :param taken: names of other entries; the volumes' names must not be among them.
    :raises InvalidArgumentError: the range has an error in it.

    >>> expand("d{1..2}", {"mount": "/srv/{1..2}"}, set())
    [('d1', {'mount': '/srv/1'}), ('d2', {'mount': '/srv/2'})]
    """
    found = find(name)
    if not found:
        return [(name, entry)]
    where = f"storage:volumes:{validate.name(name, 'storage:volumes name')}"
    if isinstance(entry, Mapping):
        # Before anything of the entry is shown.
        passphrase.check(entry.get("passphrase"), name)
    if len(found) > 1:
        raise InvalidArgumentError(f"{where}: a name can have one range only", field="name")
    written, first, last = found[0]
    count = int(last) - int(first) + 1
    if not 1 <= count <= MAX_RANGE:
        raise InvalidArgumentError(f"{where}: {written} stands for {max(0, count)} volumes; 1 to {MAX_RANGE} are possible", field="name")
    for text in _texts(entry):
        for other, *_ in find(text):
            if other != written:
                raise InvalidArgumentError(
                    f"{where}: {text[:80]!r} has the range {other}; only {written}, that of the name, has a meaning", field="name"
                )
    # As in a shell: a leading zero says that all are as long.
    width = max(len(first), len(last)) if first.startswith("0") or last.startswith("0") else 0
    numbers = [f"{number:0{width}}" for number in range(int(first), int(last) + 1)]
    volumes = [(name.replace(written, number), _replaced(entry, written, number)) for number in numbers]
    if twice := [one for one, _ in volumes if one in taken]:
        raise InvalidArgumentError(f"{where}: there is an entry for {twice[0]!r} already", field="name")
    mounts = [options.get("mount") for _, options in volumes if isinstance(options, Mapping) and options.get("mount") is not None]
    if count > 1 and mounts and len(set(map(str, mounts))) == 1:
        raise InvalidArgumentError(f"{where}: all of them would be mounted on {mounts[0]!r}; write {written} in it too", field="mount")
    return volumes


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts(item)


def _replaced(value: Any, written: str, number: str) -> Any:
    if isinstance(value, str):
        return value.replace(written, number)
    if isinstance(value, Mapping):
        return {key: _replaced(item, written, number) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_replaced(item, written, number) for item in value]
    return value
