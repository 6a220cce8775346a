"""Starts the controller's process as a child."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from typing import Any

from .. import builds
from ..environment import location
from ..errors import FailedPreconditionError, LostError, UnavailableError
from ..ipc.child import Child
from . import settings

log = logging.getLogger(__name__)

#: Version of the calls between this side and the controller.
PROTOCOL = 1
#: How long it may take to open its catalog, seconds: another master may be changing the tables.
START_TIMEOUT = 300.0
#: Where another user's service is the controller.
NO_SERVICE = "the controller's service does not answer; look at systemctl status salt-storage-controller"
_LINE = re.compile(r"(DEBUG|INFO|WARNING|ERROR|CRITICAL) ")


def start(opts: Mapping[str, Any], given: Mapping[str, Any], *, socket: str | None = None, serve: bool = False) -> Child:
    """Start a controller that ends with this process.

    :param opts: Salt's options.
    :param given: the configuration, from :func:`.settings.section`.
    :param socket: path at which it listens for others; None: it serves this process alone.
    :param serve: whether it settles what a crash left, loads its drivers and keeps them.
    :raises StorageError: it does not start, or cannot serve; the message says why.
    """
    interpreter = location.interpreter({**opts, "storage": dict(given)}, role=location.CONTROLLER)
    lines = _Lines()
    try:
        child = Child(interpreter.command("controller"), interpreter.environ(), tell=lines.log, name="the storage controller")
        try:
            check(child.connection.hello)
            child.connection.call(
                "settings",
                {
                    "settings": settings.for_process(opts, given),
                    "socket": socket,
                    "serve": serve,
                    "log_level": log.getEffectiveLevel(),
                    "parent": {"version": builds.VERSION, "build": builds.own()},
                },
                timeout=START_TIMEOUT,
            )
        except BaseException:
            child.stop(0.0)
            raise
    except LostError as exc:
        raise UnavailableError(f"{exc}; its Python is {interpreter.python}") from None
    return child


def check(hello: Mapping[str, Any]) -> None:
    """Refuse a controller that speaks another protocol.

    :param hello: its greeting.
    :raises FailedPreconditionError: it does.
    """
    if hello.get("protocol") != PROTOCOL:
        raise FailedPreconditionError(
            f"the storage controller has version {hello.get('version')}, which does not fit version {builds.VERSION} here; "
            "apply storage.controller on the master's host, which brings both to one version, and restart the master"
        )
    if hello.get("build") != builds.own():
        log.warning("storage: the controller runs other code than this process; salt-run storage.versions says what to restart or apply")


class _Lines:
    """Passes on what a controller writes to its standard error: its log."""

    def __init__(self) -> None:
        self._level = logging.WARNING

    def log(self, line: str) -> None:
        """Log a line at the level that it, or the line that it goes on from, names."""
        if (found := _LINE.match(line)) is not None:
            self._level = logging.getLevelNamesMapping()[found[1]]
            line = line[found.end() :]
        log.log(self._level, "%s", line)
