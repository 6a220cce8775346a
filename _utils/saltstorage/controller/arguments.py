"""The arguments of operations, decoded where a request comes in: every operation gets typed,
checked values.

A parameter has one meaning and one check by its name, in whatever operation it stands.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from .. import validate
from ..errors import InvalidArgumentError
from ..spec import ATTRIBUTES, PARAMETERS, Check, VolumeSpec, decode_attributes
from .operations.core import plain_connector


def decode(op: str, operation: Callable[..., Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of an operation, from what a minion or the administrator wrote.

    :param op: name of the operation, for errors.
    :param operation: takes the caller and keyword arguments; its signature says which, and which
        may be left out.
    :raises InvalidArgumentError: a parameter is unknown, missing or wrong; ``field`` says which.
    """
    validate.no_unknown(given, names(operation), f"the operation {op!r}")
    arguments = {}
    for p in _parameters(operation):
        value = given.get(p.name)
        if p.name in _SPREAD:
            arguments[p.name] = _SPREAD[p.name][1](given)
        elif value is None and p.default is p.empty:
            raise InvalidArgumentError(f"{p.name} is missing", field=p.name)
        elif p.name in given and not (value is None and p.default is None):
            arguments[p.name] = _CHECKS[p.name](value, p.name)
    return arguments


def names(operation: Callable[..., Any]) -> list[str]:
    """Return the names of the arguments that a request for an operation may have."""
    return [name for p in _parameters(operation) for name in (_SPREAD[p.name][0] if p.name in _SPREAD else (p.name,))]


def _parameters(operation: Callable[..., Any]) -> list[inspect.Parameter]:
    return [p for p in inspect.signature(operation).parameters.values() if p.name != "caller"]


def _creation(value: Any, field: str) -> VolumeSpec:
    given = validate.mapping(value, field)
    validate.no_unknown(given, PARAMETERS, field)
    return VolumeSpec.decode(given)


def _series(value: Any, field: str) -> str:
    return "" if value == "" else validate.name(value, field)


def _requests(value: Any, field: str) -> list[Mapping[str, Any]]:
    if not isinstance(value, list) or not all(isinstance(r, dict) and r.keys() == {"op", "args"} for r in value):
        raise InvalidArgumentError(f"{field} must be a list of mappings with op and args", field=field)
    if len(value) > validate.MAX_TOGETHER:
        raise InvalidArgumentError(f"at most {validate.MAX_TOGETHER} requests can travel together", field=field)
    return value


#: Parameters of operations that stand for several parameters of a request: the names of these,
#: and the function that makes one value.
_SPREAD: Mapping[str, tuple[tuple[str, ...], Callable[[Mapping[str, Any]], Any]]] = {
    "spec": (PARAMETERS, VolumeSpec.decode),
    "attributes": (ATTRIBUTES, decode_attributes),
}
_CHECKS: Mapping[str, Check] = {
    "after": lambda value, _: value,  # only the inventory knows its places
    "confirm": validate.boolean,
    "connector": plain_connector,
    "create": _creation,
    "encrypted": validate.boolean,
    "encryption": validate.boolean,
    "fenced": validate.boolean,
    "frozen": validate.boolean,
    "host": validate.name,
    "id": validate.name,
    "mounts": validate.boolean,
    "name": validate.name,
    "owner": validate.name,
    "read_only": validate.boolean,
    "requests": _requests,
    "retain": validate.boolean,
    "series": _series,
    "size": validate.size_gib,
    "until": validate.seconds,
    "volume": validate.name,
    "volume_id": validate.name,
}
