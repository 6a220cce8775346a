"""The versions of the parts on the master's host, and the parts to restart where two differ."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Mapping
from typing import Any

import salt.version

from ..builds import BUILD, VERSION
from ..environment import building, location
from ..errors import LostError, StorageError
from ..ipc import sockets
from ..link import settings

_RESTART = "restart the salt-master"
_APPLY = "apply storage.controller on this host"


def rows(opts: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the parts: ``runner``, ``engine``, ``controller`` and ``environment``.

    :param opts: the master's options.
    :returns: of each ``part``, ``version``, ``build`` (a digest of its code), ``python``, ``salt``
        and ``hint``, the step to take because it differs from the runner. A part that does not run
        has None for its version, and the reason as its hint.
    :raises StorageError: the configuration cannot be read.
    """
    python = ".".join(map(str, sys.version_info[:3]))
    found = [{"part": "runner", "version": VERSION, "build": BUILD, "python": python, "salt": salt.version.__version__, "hint": ""}]
    hello, why = _controller(opts)
    parent = hello.get("parent") or {}
    service = hello.get("role") == "service"
    if service:
        found.append(_part("engine", {}, "it asks the controller's service, which does not know its version", _RESTART))
    else:
        found.append(_part("engine", parent, why or "it does not run", _RESTART))
    found.append(_part("controller", hello, why, "restart salt-storage-controller.service" if service else _RESTART))
    folder = location.folder(opts, location.CONTROLLER)
    status = building.status(folder)
    stamp = {**status.stamp, "python": (status.stamp.get("python") or [None, None])[1]}
    found.append(_part("environment", stamp, status.problem or f"there is none in {folder}", _APPLY))
    return found


def _part(name: str, said: Mapping[str, Any], why: str, cure: str) -> dict[str, Any]:
    build = said.get("build")
    hint = why if build is None else "" if build == BUILD else f"it has other code than the runner: {cure}"
    return {
        "part": name,
        "version": said.get("version"),
        "build": build,
        "python": said.get("python"),
        "salt": said.get("salt"),
        "hint": hint,
    }


def _controller(opts: Mapping[str, Any]) -> tuple[Mapping[str, Any], str]:
    """Return the greeting of the controller that runs, or the reason why there is none."""
    given = settings.known(opts)
    try:
        with contextlib.closing(sockets.connect(settings.socket_path(opts, given), settings.users(opts, given))) as found:
            return found.hello, ""
    except StorageError as error:
        return {}, error.message
    except LostError as error:
        return {}, f"it does not run: {error}"
