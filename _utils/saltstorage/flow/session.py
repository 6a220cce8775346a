"""The way to the controller: the master's over the bus, or masterless in a child of the job."""

from __future__ import annotations

import json
import multiprocessing.util
import os
from collections.abc import Mapping, MutableMapping
from typing import Any, Protocol

from ..bus.client import BusClient
from ..bus.reports import progress_reports
from ..errors import InvalidArgumentError, from_wire
from ..faults import as_storage_error
from ..ipc.child import Child
from ..link import asking, settings, starting
from ..progress import Heartbeat, Tell, on_terminal

_CONTEXT_KEY = "saltstorage.controller"


class Controller(Protocol):
    """The controller of this minion, near or far."""

    def call(self, op: str, args: Mapping[str, Any], timeout: float | None = None) -> dict[str, Any]:
        """Carry out ``op`` and return its result.

        Raises a :class:`~saltstorage.errors.StorageError`.
        """


def is_masterless(opts: Mapping[str, Any]) -> bool:
    """Return whether Salt works without a master here, by the rule of Salt's ``event`` module."""
    local = opts.get("local") or opts.get("file_client") == "local" or opts.get("master_type") == "disable"
    return bool(local) and not opts.get("use_master_when_local")


def controller_for(opts: Mapping[str, Any], context: MutableMapping[str, Any] | None = None, *, answer_timeout: float) -> Controller:
    """Return the controller that this minion uses: its master's, or masterless one in a
    child of this process.

    :param opts: the minion's options.
    :param context: ``__context__``; keeps connections and loaded drivers for further calls.
    :param answer_timeout: how long to wait for a first sign of a master's controller, seconds.
    """
    return LocalController(opts, context) if is_masterless(opts) else BusClient(opts, context, answer_timeout=answer_timeout)


def progress_for(opts: Mapping[str, Any]) -> Tell:
    """Return the function that reports the progress of a long step.

    It reports to the master, or masterless to the terminal.

    :param opts: the minion's options.
    """
    return on_terminal if is_masterless(opts) else progress_reports(opts)


class LocalController:
    """The controller in a child of this process, for a minion without a master.

    :param opts: the minion's options; their ``storage`` holds the controller's keys too.
    :param context: ``__context__``; keeps the child for further calls in the same process.
    """

    def __init__(self, opts: Mapping[str, Any], context: MutableMapping[str, Any] | None = None) -> None:
        self._opts = opts
        self._context: MutableMapping[str, Any] = {} if context is None else context

    def call(self, op: str, args: Mapping[str, Any], timeout: float | None = None) -> dict[str, Any]:
        """Carry out ``op`` and return its result.

        Reading settles nothing; any other operation first settles what a crash left, which a dry
        run may not. ``timeout`` is not used, since nobody else is asked.
        """
        try:
            # Only plain data goes in and out, as over the bus, so that both ways behave alike.
            plain = json.loads(json.dumps(dict(args), allow_nan=False))
        except (TypeError, ValueError):
            raise InvalidArgumentError("the arguments are not plain data") from None
        request = {"op": op, "args": plain, "caller": self._opts["id"], "start": op != "inventory"}
        try:
            with Heartbeat(on_terminal).operation(op, self._opts["id"], plain):
                return dict(asking.ask(self._child().connection, "execute", request))
        except Exception as exc:  # every fault becomes a typed error, as on the bus
            raise from_wire(as_storage_error(exc, f"operation {op}").to_wire()) from None

    def _child(self) -> Child:
        kept = self._context.get(_CONTEXT_KEY)
        if kept is None or kept[0] != os.getpid() or kept[1].connection.left():
            child = starting.start(self._opts, settings.section(self._opts))
            # Also run at the end of a forked job, where atexit is not.
            multiprocessing.util.Finalize(None, child.stop, exitpriority=10)
            kept = self._context[_CONTEXT_KEY] = (os.getpid(), child)
        return kept[1]
