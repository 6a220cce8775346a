"""Checks of the pillar key ``storage:controller`` before it becomes a configuration."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping
from typing import Any

from .. import validate
from ..errors import InvalidArgumentError
from . import faults
from .slots import refuse_slots


def check(value: Any) -> None:
    """Check the pillar key, as far as that is possible without loading a driver.

    A policy may name backends and types that are not there only by a pattern: the running
    controller takes such a name too, but in pillar it is most likely a mistake.

    :raises InvalidArgumentError: with all faults that can be found at once.
    :raises FailedPreconditionError: it is empty.
    """
    from ..controller.access.config import ControllerConfig

    given = validate.mapping(value, "storage:controller")
    refuse_slots(given, "storage:controller")
    backends = given.get("backends", {})
    # Each key alone, beside the backends, since the configuration stops at its first fault.
    if given and isinstance(backends, Mapping):
        parts = [{"backends": backends, key: item} for key, item in given.items() if key != "backends"]
        faults.gather(
            lambda: ControllerConfig.from_opts({"storage": {"backends": backends}}),
            *(lambda part=part: ControllerConfig.from_opts({"storage": part}) for part in parts),
            *(lambda glob=glob, rule=rule: _check_rule(glob, rule, given) for glob, rule in _rules(given).items()),
        )
    ControllerConfig.from_opts({"storage": given})


def _rules(given: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    policy = given.get("policy")
    return {glob: rule for glob, rule in policy.items() if isinstance(rule, Mapping)} if isinstance(policy, Mapping) else {}


def _check_rule(glob: str, rule: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    """Refuse names of backends and types that are not there."""
    for key in ("backends", "types"):
        known, named = given.get(key) or {}, rule.get(key)
        if not isinstance(known, Mapping) or not isinstance(named, list | tuple):
            continue
        for name in named:
            if isinstance(name, str) and not fnmatch.filter(known, name) and not set(name) & set("*?["):
                text = f"storage:policy:{glob}:{key}: {name!r} is not one of the {key}: {', '.join(known) or 'none'}"
                raise InvalidArgumentError(text, field=f"storage:policy:{glob}:{key}")
