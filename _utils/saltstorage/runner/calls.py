"""The frame of every function of the runner: its failure, the controller that it asks, and its
progress.
"""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import Callable, Mapping
from typing import Any, ParamSpec, TypeVar

from ..bus.eventbus import BusLostError, EventBus
from ..bus.reports import progress_events
from ..errors import InvalidArgumentError, StorageError
from ..faults import as_storage_error
from ..link import asking
from ..progress import Heartbeat, Tell, on_terminal

log = logging.getLogger(__name__)

FENCED_TAG = "storage/fenced/"
#: Jobs of Salt's ``RunnerClient`` have such tags. It runs the functions for ``salt-run``,
#: orchestrations, the reactor and salt-api.
RUNNER_CLIENT_TAG = "salt/run/"

# Salt sets these two in the globals of the functions that :func:`operation` returns, so here,
# before each call:
#: Tag of the job on the master's event bus; empty when a function is called from Python.
__tag__ = ""
#: The event bus of the job, which ``salt-run`` shows on the terminal.
__jid_event__: Any = None

P = ParamSpec("P")
T = TypeVar("T")


def operation(function: Callable[P, T]) -> Callable[P, T | dict[str, Any]]:
    """Let the caller of a runner's function recognise each of its failures. Decorate every
    function.

    Salt's ``RunnerClient`` turns an exception into a text with a traceback, and wrong arguments
    into a success. So there, the function returns :func:`failure`. Every other caller gets a
    :class:`.StorageError`: the scheduler of the master, a masterless minion, Python.
    """
    signature = inspect.signature(function)

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T | dict[str, Any]:
        try:
            _check_arguments(signature, function.__name__, args, kwargs)
            return function(*args, **kwargs)
        except Exception as exc:  # a text of any other one may hold passwords
            error = as_storage_error(exc, f"storage.{function.__name__}")
        if not __tag__.startswith(RUNNER_CLIENT_TAG):
            raise error
        return failure(error)

    return call


def failure(error: StorageError) -> dict[str, Any]:
    """Return an error as Salt's ``RunnerClient`` and its callers recognise one.

    ``error`` and ``code`` are for people and programs, ``details`` has further facts where there
    are some. Salt looks at the others:

    ``retcode``
        ``salt-run`` (its exit code), and ``module.run`` of a minion on the master's host.
    ``success``
        A job of a minion on the master's host that calls ``saltutil.runner``.
    ``exit_code``
        The state ``salt.parallel_runners``.
    ``data``
        ``RunnerClient`` itself takes ``data`` for the results of states; None is none, so it sets
        ``success`` to False in its answer. The state ``salt.runner``, the event of the job and the
        job cache have that answer. The other way, a ``retcode`` in ``__context__``, would also
        turn the next call of the reactor, which keeps its ``RunnerClient``, into a failure.

    >>> failure(InvalidArgumentError("size must be positive"))["error"]
    'INVALID_ARGUMENT: size must be positive'
    """
    shown = {"error": str(error), "code": error.code, **({"details": error.details} if error.details else {})}
    return {**shown, "success": False, "retcode": 1, "exit_code": 1, "data": None}


def read(opts: Mapping[str, Any], call: str, args: Mapping[str, Any] | None = None, *, own: bool = False) -> Any:
    """Return the controller's answer to a call of the administrator.

    :param opts: the master's options.
    :param call: one of :data:`saltstorage.controller.desk.CALLS`.
    :param args: its arguments.
    :param own: ask a controller that is started for this call alone.
    :raises StorageError: the configuration is wrong, or the call raised it.
    """
    with asking.controller(opts, own=own) as connection:
        return asking.ask(connection, "admin", {"call": call, "args": dict(args or {})})


def change(opts: Mapping[str, Any], op: str, given: Mapping[str, Any], call: str | None = None) -> Any:
    """Carry out an operation as the administrator, and show its progress when it takes long.

    :param op: name of the operation.
    :param given: its parameters; a parameter that is None is left out.
    :param call: the call that carries it out, with these parameters; default: the operation of
        that name that minions have too.
    :raises StorageError: the operation failed.
    """
    given = {key: value for key, value in given.items() if value is not None}
    heartbeat = Heartbeat(_progress(opts))
    try:
        with heartbeat.operation(op, None, given):
            return read(opts, "operate", {"op": op, "args": given}) if call is None else read(opts, call, given)
    finally:
        heartbeat.close()


def disconnect(opts: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Take a volume from a host that the administrator has fenced, and fire
    ``storage/fenced/<volume id>`` on the master's bus.

    The event has ``volume``, ``owner`` and ``host``, all names. Without a running master there is
    none.

    :param given: the parameters of the operation.
    :raises StorageError: the operation failed.
    """
    answer: dict[str, Any] = change(opts, "disconnect", given)
    if (connection := answer["connection"]) is not None:
        # After the unmap: a listener may let another host have the volume.
        try:
            EventBus("master", opts).fire(
                FENCED_TAG + connection["volume_id"], {key: connection[key] for key in ("volume", "owner", "host")}
            )
        except (BusLostError, PermissionError):
            log.debug("storage: nobody hears that %s was fenced", connection["host"])
    return answer


def _check_arguments(signature: inspect.Signature, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    try:
        signature.bind(*args, **kwargs)
    except TypeError as error:
        raise InvalidArgumentError(f"{name}: {error}") from None


def _progress(opts: Mapping[str, Any]) -> Tell:
    """Return what shows progress: as events on the master's bus, and on the terminal unless a
    program reads the output there.
    """
    if opts.get("__role") == "minion":  # masterless
        return on_terminal
    fire, event = progress_events(opts), __jid_event__

    def tell(data: dict[str, Any]) -> None:
        fire(data)
        # Salt prints such an event on standard output, with the outputter of the result.
        if event is not None and opts.get("output") in (None, "nested", "highstate", "txt"):
            event.fire_event({"message": data["text"]}, "progress")

    return tell
