"""Slots: values of a state that Salt takes for calls of functions. Pillar must not become a
call.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import InvalidArgumentError

_SLOT = "__slot__:"


def refuse_slots(value: Any, where: str) -> None:
    """Check that neither a value nor anything in it is a slot.

    :param where: its place in pillar, such as ``storage:controller``.
    :raises InvalidArgumentError: a text in it is one.
    """
    if isinstance(value, str) and value.startswith(_SLOT):
        raise InvalidArgumentError(f"{where}: {value[:40]!r} begins with {_SLOT}, which Salt would call", field=where)
    if isinstance(value, Mapping):
        for key, item in value.items():
            refuse_slots(key, where)
            refuse_slots(item, where)
    elif isinstance(value, list | tuple):
        for item in value:
            refuse_slots(item, where)
