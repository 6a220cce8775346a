"""The formula's own settings, such as paths, users and packages: its defaults, and pillar
``storage:lookup`` over them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import salt.utils.dictupdate

from .. import validate
from . import process
from .slots import refuse_slots

#: The parts of the formula that have settings.
PARTS = ("controller", "consumer", "environment")


def check(storage: Any) -> dict[str, dict[str, Any]]:
    """Return the settings in the pillar key ``storage``, by part of the formula.

    :raises InvalidArgumentError: they are malformed, or one would be a call or cannot be.
    """
    pillar = validate.mapping({} if storage is None else storage, "storage")
    given = validate.mapping(pillar.get("lookup") or {}, "storage:lookup")
    validate.no_unknown(given, PARTS, "storage:lookup")
    found = {}
    for part in PARTS:
        where = f"storage:lookup:{part}"
        found[part] = validate.mapping(given.get(part) or {}, where)
        refuse_slots(found[part], where)
    process.check(found["controller"], "storage:lookup:controller")
    return found


def merge(defaults: Mapping[str, Any], families: Mapping[str, Any], family: str | None, storage: Any) -> dict[str, Any]:
    """Return all settings, by part of the formula.

    :param defaults: the contents of ``defaults.yaml``.
    :param families: those of ``osfamilymap.yaml``: the needs of each protocol, by family of
        operating systems.
    :param family: grain ``os_family`` of this minion.
    :param storage: pillar key ``storage``.
    :raises InvalidArgumentError: ``storage:lookup`` is malformed.

    >>> defaults = {"controller": {"user": "salt", "group": "salt"}, "consumer": {}}
    >>> merge(defaults, {}, "Debian", {"lookup": {"controller": {"user": "root"}}})["controller"]
    {'user': 'root', 'group': 'salt'}
    """
    family_map = families.get(family or "", {})
    base = {
        "controller": defaults["controller"],
        "consumer": {**defaults["consumer"], "protocols": {name: needs for name, needs in family_map.items() if name != "environment"}},
        "environment": {**defaults.get("environment", {}), **family_map.get("environment", {})},
    }
    merged: dict[str, Any] = salt.utils.dictupdate.merge_recurse(base, check(storage))
    return merged
