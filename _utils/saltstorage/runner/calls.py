"""What runner functions have in common: the service, errors as salt-run shows them, progress."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from ..bus.eventbus import BusLostError, EventBus
from ..bus.server import progress_events
from ..controller.operations.core import Caller
from ..controller.service import Service
from ..errors import StorageError
from ..progress import Heartbeat, Tell, on_terminal

log = logging.getLogger(__name__)

FENCED_TAG = "storage/fenced/"


def failed(error: StorageError) -> dict[str, Any]:
    """Return what a runner function answers for an error: salt-run ends with exit code 1 and shows no traceback."""
    return {"error": str(error), "code": error.code, "retcode": 1}


def read(opts: Mapping[str, Any], function: Callable[[Service], Any]) -> Any:
    """Call ``function`` with a service and return its answer, or :func:`failed`.

    :param opts: the master's options.
    """
    service = None
    try:
        service = Service(opts)
        return function(service)
    except StorageError as error:
        return failed(error)
    finally:
        if service is not None:
            service.close()


def change(
    opts: Mapping[str, Any], event: Any, op: str, given: Mapping[str, Any], function: Callable[..., Any] | None = None
) -> dict[str, Any]:
    """Carry out an operation as the administrator, and show its progress when it takes long.

    :param event: the runner's ``__jid_event__``, or None.
    :param op: name of the operation.
    :param given: its parameters; those that are None are left out.
    :param function: called with the service and the parameters; default: the operation of that name that minions have too.
    """
    given = {key: value for key, value in given.items() if value is not None}

    def call(service: Service) -> Any:
        heartbeat = Heartbeat(_tell(opts, event))
        try:
            with heartbeat.operation(op, None, given):
                return service.call(op, given, Caller()) if function is None else function(service, **given)
        finally:
            heartbeat.close()

    answer: dict[str, Any] = read(opts, call)
    return answer


def disconnect(opts: Mapping[str, Any], event: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    """Take a volume from a host on the administrator's word that it is fenced, and fire ``storage/fenced/<volume id>`` on the master's bus.

    The event has ``volume``, ``owner`` and ``host``, all names. Without a running master there is none.

    :param event: as :func:`change` has it, also the others.
    """
    answer = change(opts, event, "disconnect", given)
    if (connection := answer.get("connection")) is not None:
        # After the unmap: who hears of it may let another host have the volume.
        try:
            EventBus("master", opts).fire(
                FENCED_TAG + connection["volume_id"], {key: connection[key] for key in ("volume", "owner", "host")}
            )
        except (BusLostError, PermissionError):
            log.debug("storage: nobody hears that %s was fenced", connection["host"])
    return answer


def _tell(opts: Mapping[str, Any], event: Any) -> Tell:
    """Return what shows progress: as events on the master's bus, and on the terminal unless a program reads the output there."""
    if opts.get("__role") == "minion":  # masterless
        return on_terminal
    fire = progress_events(opts)

    def tell(data: dict[str, Any]) -> None:
        fire(data)
        # Salt prints such an event on standard output, with the outputter of the result.
        if event is not None and opts.get("output") in (None, "nested", "highstate", "txt"):
            event.fire_event({"message": data["text"]}, "progress")

    return tell
