"""Checks of what users and minions write, done before anything is changed.

Names follow the rule of the CSI specification ("Size Limits" and "Field Requirements": at most
128 bytes, no control characters, any other Unicode), and may not be a path, since a name is a
file name in ``/dev/storage``.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from typing import Any

from .errors import InvalidArgumentError

MAX_NAME_BYTES = 128
#: 16 PiB in GiB; no driver of Cinder takes a larger volume, and a mistyped size is refused before
#: any work.
MAX_SIZE_GIB = 16 * 1024 * 1024
MAX_LABELS = 64
MAX_LABEL_KEY_BYTES = 63
MAX_LABEL_VALUE_BYTES = 128
MAX_DESCRIPTION_BYTES = 255
SHARED_OWNER = "shared"
#: Most requests that travel as one: one worker does them in a row, and the replies, each of some
#: KiB, must stay below what the bus takes.
MAX_TOGETHER = 32

_SIZE = re.compile(r"(?P<number>[0-9]{1,20})\s*(?P<unit>[kmgtp]?)(?:i?b)?", re.IGNORECASE | re.ASCII)
_TIME = re.compile(r"(?P<number>[0-9]{1,9})\s*(?P<unit>[smhdw]?)", re.IGNORECASE | re.ASCII)
_UNIT_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_MAX_SECONDS = 100 * 366 * 86400
_KINDS: tuple[tuple[type | tuple[type, ...], str], ...] = (
    (Mapping, "a mapping"),
    ((list, tuple), "a list"),
    (str, "a string"),
    (int, "a number"),
    (float, "a number"),
)
#: Most unknown names that one error lists.
_MOST_HINTS = 5
#: Least likeness of a name that is offered for an unknown one; at difflib's own 0.6, 'present' is
#: like 'resize'.
_LIKE = 0.7
_UNIT_BYTES = {"k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40, "p": 2**50}


def kind(value: Any) -> str:
    """Return the kind of a value in words that YAML's users know. Salt has classes of its own for
    lists and mappings of pillar, whose names say nothing.

    >>> kind(["data"])
    'a list'
    """
    if value is None:
        return "empty"
    if isinstance(value, bool):
        return str(value)
    for types, words in _KINDS:
        if isinstance(value, types):
            return words
    return type(value).__name__


def shown(value: Any) -> str:
    """Return a value as an error shows it: a list or a mapping, which Salt would show masked, by
    its kind alone.
    """
    return kind(value) if isinstance(value, Mapping | list | tuple) else repr(value)


def name(value: Any, field: str = "name") -> str:
    """Return ``value`` when it is a valid name of a volume or snapshot.

    :raises InvalidArgumentError: not a string; empty; over 128 bytes of UTF-8; has ``/`` or a
        control character; is ``.`` or ``..``.

    >>> name("pg data")
    'pg data'
    """
    if not isinstance(value, str):
        # YAML reads an unquoted 2024 or yes as another type; say how to write it.
        raise InvalidArgumentError(f"{field} must be a string, not {kind(value)}; quote it", field=field)
    if not value:
        raise InvalidArgumentError(f"{field} is empty; give the volume a name", field=field)
    try:
        size = len(value.encode("utf-8"))
    except UnicodeEncodeError:
        raise InvalidArgumentError(f"{field} is not valid Unicode", field=field) from None
    if size > MAX_NAME_BYTES:
        raise InvalidArgumentError(f"{field} is {size} bytes long in UTF-8; at most {MAX_NAME_BYTES} are allowed", field=field)
    if value in (".", ".."):
        raise InvalidArgumentError(f"{field} may not be {value!r}: it is a file name in /dev/storage", field=field)
    if "/" in value:
        raise InvalidArgumentError(f"{field} {value!r} has a '/'; it is a file name in /dev/storage", field=field)
    # Cc: controls. Zl/Zp: line and paragraph separators, which break lists and logs like a
    # newline does.
    if any(unicodedata.category(char) in ("Cc", "Zl", "Zp") for char in value):
        raise InvalidArgumentError(f"{field} {value!r} has a control character", field=field)
    return value


def size_gib(value: Any, field: str = "size") -> int:
    """Return a size in whole GiB, rounded up.

    :param value: a whole number of GiB, or a string of a whole number and a binary unit: ``20``,
        ``"20"``, ``"20G"``, ``"20GiB"``, ``"512 MiB"``, ``"1TiB"``. ``G``, ``GB`` and ``GiB`` all
        mean 2**30 bytes, as for LVM.
    :raises InvalidArgumentError: anything else, 0, a negative or a fractional number, over 16
        PiB.

    >>> size_gib("1536 MiB")
    2
    """
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise InvalidArgumentError(f"{field} must be a whole number of GiB or a string such as '20GiB', not {shown(value)}", field=field)
    if isinstance(value, str):
        match = _SIZE.fullmatch(value.strip())
        if not match:
            raise InvalidArgumentError(
                f"{field} {value[:40]!r} is not a size; write a whole number and a unit, such as '20GiB'", field=field
            )
        unit = match["unit"].lower()
        number = int(match["number"])
        gib = -(-number * _UNIT_BYTES[unit] // 2**30) if unit else number
    else:
        gib = value
    if gib < 1:
        raise InvalidArgumentError(f"{field} must be at least 1 GiB, not {value!r}", field=field)
    if gib > MAX_SIZE_GIB:
        raise InvalidArgumentError(f"{field} {value!r} is over the largest possible size of {MAX_SIZE_GIB} GiB", field=field)
    return gib


def seconds(value: Any, field: str) -> float:
    """Return a length of time in seconds.

    :param value: a number of seconds, or a string of a whole number and a unit: ``"90s"``,
        ``"30m"``, ``"6h"``, ``"1d"``, ``"1w"``.
    :raises InvalidArgumentError: anything else, or nothing above 0.

    >>> seconds("6h", "every")
    21600.0
    """
    given: float | None = None
    if isinstance(value, str) and (match := _TIME.fullmatch(value.strip())):
        given = float(match["number"]) * _UNIT_SECONDS[match["unit"].lower()]
    elif isinstance(value, int | float) and not isinstance(value, bool):
        given = float(value)
    # `not given > 0` also refuses NaN.
    if given is None or not given > 0 or given > _MAX_SECONDS:
        raise InvalidArgumentError(
            f"{field} must be a number of seconds above 0, or a string such as '30m', '6h' or '1d', not {shown(value)}", field=field
        )
    return given


def boolean(value: Any, field: str) -> bool:
    """Return ``value`` when it is True or False; a string such as ``"no"`` is refused, since
    Python reads it as true.
    """
    if not isinstance(value, bool):
        raise InvalidArgumentError(f"{field} must be True or False, not {shown(value)}", field=field)
    return value


def labels(value: Any, field: str = "labels") -> dict[str, str]:
    """Return ``value`` when it is a mapping of valid labels.

    At most 64. A key has 1 to 63 bytes of UTF-8, and no ``=`` or ``,``, which separate labels in
    a filter, nor blanks at its ends. A value has at most 128 bytes. Both are text without control
    characters.

    :raises InvalidArgumentError: otherwise; ``field`` names the label.

    >>> labels({"env": "prod"})
    {'env': 'prod'}
    """
    given = mapping(value, field)
    if len(given) > MAX_LABELS:
        raise InvalidArgumentError(f"{field} has {len(given)} entries; at most {MAX_LABELS} are allowed", field=field)
    for key, text in given.items():
        _text(key, f"the key of a label in {field}", MAX_LABEL_KEY_BYTES, field)
        if not key or key != key.strip() or "=" in key or "," in key:
            raise InvalidArgumentError(
                f"{field} has the key {key!r}; a key is not empty and has no '=', ',' or blanks at its ends", field=field
            )
        _text(text, f"{field}:{key}", MAX_LABEL_VALUE_BYTES, f"{field}:{key}")
    return given


def description(value: Any, field: str = "description") -> str:
    """Return ``value`` when it is a description: at most 255 bytes of UTF-8 without control
    characters; it may be empty.
    """
    return _text(value, field, MAX_DESCRIPTION_BYTES, field)


def _text(value: Any, what: str, most: int, field: str) -> str:
    if not isinstance(value, str):
        raise InvalidArgumentError(f"{what} must be a string, not {kind(value)}; quote it", field=field)
    try:
        size = len(value.encode("utf-8"))
    except UnicodeEncodeError:
        raise InvalidArgumentError(f"{what} is not valid Unicode", field=field) from None
    if size > most:
        raise InvalidArgumentError(f"{what} is {size} bytes long in UTF-8; at most {most} are allowed", field=field)
    if any(unicodedata.category(char) in ("Cc", "Zl", "Zp") for char in value):
        raise InvalidArgumentError(f"{what} has a control character", field=field)
    return value


def mapping(value: Any, field: str) -> dict[str, Any]:
    """Return ``value`` as a dictionary with string keys."""
    if not isinstance(value, Mapping):
        raise InvalidArgumentError(f"{field} must be a mapping, not {kind(value)}", field=field)
    for key in value:
        if not isinstance(key, str):
            raise InvalidArgumentError(f"{field} has the key {key!r}, which is not a string; quote it", field=field)
    # Not dict(value): Salt's proxies of its options subclass dict and answer only when asked key
    # by key.
    return {key: value[key] for key in value}


def rounded(value: Any) -> int | None:
    """Return the whole GiB to which a size is rounded up; None when it is whole as it is written.

    :param value: a size that :func:`size_gib` takes.

    >>> rounded("500MiB"), rounded("2048 MiB")
    (1, None)
    """
    match = _SIZE.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None or not match["unit"]:
        return None
    exact = int(match["number"]) * _UNIT_BYTES[match["unit"].lower()]
    return size_gib(value) if exact % 2**30 else None


def nearest(given: str, known: Iterable[str]) -> str | None:
    """Return the known name that is most like a given one; None when none is like it.

    >>> nearest("siez", ["size", "resize"])
    'size'
    """
    import difflib

    return next(iter(difflib.get_close_matches(str(given), sorted(known), n=1, cutoff=_LIKE)), None)


def no_unknown(given: Iterable[str], known: Iterable[str], where: str) -> None:
    """Refuse names in ``given`` that are not in ``known``, before anything is done with the others.

    :raises InvalidArgumentError: with the first unknown name as its field, and for each unknown
        name the nearest known one as a hint.

    >>> no_unknown(["size"], ["size", "mount"], "data")
    """
    names = sorted(known)
    unknown = [key for key in given if key not in names]
    if not unknown:
        return
    near = {key: nearest(key, names) for key in unknown[:_MOST_HINTS]}
    hints = [f"{key!r}; did you mean {like!r}?" if like else f"{key!r}" for key, like in near.items()]
    text = f"{where} has no parameter {', no parameter '.join(hints)}"
    if not all(near.values()):
        text += f"; known: {', '.join(names)}"
    raise InvalidArgumentError(text, field=str(unknown[0]))
