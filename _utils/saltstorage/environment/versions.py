"""The versions of the code that a command runs and of the storage environment."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from .. import builds
from . import building, location


def here(opts: Mapping[str, Any], role: str, part: str) -> list[dict[str, Any]]:
    """Return the rows of the code that asks, and of the storage environment of this host.

    :param role: the environment's: ``controller`` or ``consumer``.
    :param part: name of the code that asks.
    :returns: of each ``part``, ``version``, ``build`` (a digest of its code), ``python``, ``salt``
        and ``hint``: the step to take, empty when there is none.
    :raises InvalidArgumentError: an option of the environment is wrong.
    """
    import salt.version

    python = ".".join(map(str, sys.version_info[:3]))
    own = {"part": part, "version": builds.VERSION, "build": builds.own(), "python": python, "salt": salt.version.__version__, "hint": ""}
    where = location.folder(opts, role)
    status = building.status(where)
    if not status.present and location.has_packages(role):
        # Salt's own Python serves.
        return [own]
    stamp = {**status.stamp, "python": (status.stamp.get("python") or [None, None])[1]}
    why = status.problem or f"there is none in {where}: apply storage.{role} on this host"
    return [own, row("environment", stamp, why, f"apply storage.{role} on this host")]


def row(part: str, said: Mapping[str, Any], why: str, cure: str) -> dict[str, Any]:
    """Return the row of another part, to compare with the code that asks.

    :param said: its description of itself; empty when it does not run.
    :param why: the reason why it says nothing.
    :param cure: the step to take when it has other code.
    """
    build = said.get("build")
    hint = why if build is None else "" if build == builds.own() else f"it has other code than what asks: {cure}"
    return {
        "part": part,
        "version": said.get("version"),
        "build": build,
        "python": said.get("python"),
        "salt": said.get("salt"),
        "hint": hint,
    }
