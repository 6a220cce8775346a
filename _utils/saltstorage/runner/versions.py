"""The versions of the parts on the master's host and on minions, and the parts to restart or to
apply where two differ.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from .. import builds
from ..environment import location
from ..environment.versions import here, row
from ..errors import InvalidArgumentError, LostError, StorageError
from ..ipc import sockets
from ..link import settings

_RESTART = "restart the salt-master"
_SYNC = "run salt {} saltutil.sync_all"


def rows(opts: Mapping[str, Any], minions: str | None = None) -> list[dict[str, Any]]:
    """Return the parts: ``runner``, ``engine``, ``controller`` and ``environment`` of the master's
    host, and ``modules`` and ``environment`` of each minion that is asked for.

    :param opts: the master's options.
    :param minions: a glob of the minions to ask; None: none.
    :returns: of each ``host`` (``master`` or the minion's id), ``part``, ``version``, ``build`` (a
        digest of its code), ``python``, ``salt`` and ``hint``, the step to take because it differs
        from the runner. A part that does not run has None for its version, and the reason as its
        hint.
    :raises InvalidArgumentError: ``minions`` is no text.
    :raises StorageError: the configuration cannot be read.
    """
    if minions is not None and (not isinstance(minions, str) or not minions):
        raise InvalidArgumentError("minions must be a glob of minion ids, such as '*'", field="minions")
    runner, *environment = here(opts, location.CONTROLLER, "runner")
    hello, why = _controller(opts)
    service = hello.get("role") == "service"
    if service:
        engine = row("engine", {}, "it asks the controller's service, which does not know its version", _RESTART)
    else:
        engine = row("engine", hello.get("parent") or {}, why or "it does not run", _RESTART)
    controller = row("controller", hello, why, "restart salt-storage-controller.service" if service else _RESTART)
    found = [{"host": "master", **each} for each in (runner, engine, controller, *environment)]
    return found if minions is None else [*found, *_of_minions(opts, minions)]


def _of_minions(opts: Mapping[str, Any], minions: str) -> Iterator[dict[str, Any]]:
    import salt.client

    client = salt.client.get_local_client(mopts=dict(opts))
    try:
        answers = client.cmd(minions, "storage.versions")
    finally:
        client.destroy()
    for host, answer in sorted(answers.items()):
        if not isinstance(answer, list):
            # A minion without the modules, or with those of before this function.
            yield {"host": host, **row("modules", {}, f"it has no storage.versions: {_SYNC.format(host)}", "")}
            continue
        for each in answer:
            if each["part"] == "modules" and each["build"] != builds.own():
                each = {**each, "hint": f"it has other code than the runner: {_SYNC.format(host)}"}
            yield {"host": host, **each}


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
