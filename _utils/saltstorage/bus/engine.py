"""The life of the engine: serves requests, and explains itself to minions while the controller
cannot start.
"""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from ..errors import FailedPreconditionError, StorageError, UnavailableError
from ..faults import as_storage_error, describe
from . import stacks
from .execution import Execute
from .journal import Journal
from .server import Server

log = logging.getLogger(__name__)

#: How often a controller that could not start is tried again, seconds; its database may be back by
#: then.
RETRY_INTERVAL = 60.0


class _Nothing:
    """A journal for a controller that carries nothing out: every request is new, and refused."""

    state = "new"
    reply: bytes | None = None

    def __init__(self, digest: str = "") -> None:
        self.digest = digest

    def begin(self, request_id: str, minion: str, digest: str, op: str, signed: float) -> _Nothing:
        return _Nothing(digest)

    def known(self, request_id: str) -> None:
        return None

    def finish(self, request_id: str, reply: bytes) -> None:
        pass

    def prune(self, older_than: float, reads_older_than: float) -> int:
        return 0


def run(opts: Mapping[str, Any], make_service: Callable[[], Any]) -> None:
    """Serve requests until the process is told to end.

    Salt starts an engine that returns again at once, and for ever; so this one does not return
    when the controller cannot start. It says why in the log, once, and to every minion that asks,
    and tries again now and then.

    :param opts: the master's options.
    :param make_service: returns a new controller service: ``start()``,
        ``execute(op, args, caller)``, ``journal``, ``close()``; it calls its ``when_outdated``,
        which is set here, when another one has to take its place.
    """
    ending = threading.Event()
    servers: list[Server] = []

    def end(*_: object) -> None:
        ending.set()
        for server in servers:
            server.stop()

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    with stacks.on_signal(opts):
        _serve(opts, make_service, ending, servers)


def _serve(opts: Mapping[str, Any], make_service: Callable[[], Any], ending: threading.Event, servers: list[Server]) -> None:
    """Serve until ``ending`` is set; ``servers`` always has the server that serves now."""
    told, fault = "", StorageError()
    retry: threading.Timer | None
    while not ending.is_set():
        service: Any = None
        try:
            service = make_service()
            service.start()
        except Exception as exc:  # a wrong configuration or a lost database must not make Salt spin
            if service is not None:
                service.close()
                service = None
            if (cause := str(exc) if isinstance(exc, StorageError) else describe(exc)) != told:
                told, fault = cause, as_storage_error(exc, "the start of the storage controller")
                log.error("storage: the controller cannot start: %s", fault)
            server = _server(opts, opts.get("storage"), _refuse_all(fault), _Nothing())
            retry = threading.Timer(RETRY_INTERVAL, server.stop)
            retry.daemon = True
            retry.start()
        else:
            told, retry = "", None
            # The configuration need not be in Salt's options.
            server = _server(opts, getattr(service, "section", opts.get("storage")), service.execute, service.journal)
        servers[:] = [server]
        if service is not None:
            service.when_outdated = server.stop
        try:
            if not ending.is_set():
                server.run()
        finally:
            if retry is not None:
                retry.cancel()
            server.close()
            if service is not None:
                service.close()


def _server(opts: Mapping[str, Any], section: Any, execute: Execute, journal: Journal) -> Server:
    given = section if isinstance(section, Mapping) else {}
    settings: dict[str, Any] = {}
    # The service checks the configuration; these two must not keep the engine from saying what is
    # wrong with it.
    for key in ("workers", "request_max_age"):
        if isinstance(value := given.get(key), int) and not isinstance(value, bool) and value > 0:
            settings[key] = value
    return Server(opts, execute, journal, **settings)


def _refuse_all(fault: StorageError) -> Callable[[str, dict[str, Any], str], NoReturn]:
    def execute(op: str, args: dict[str, Any], caller: str) -> NoReturn:
        # A fault that may pass says nothing of the request: an earlier life of the engine may have
        # carried it out.
        cls = UnavailableError if fault.retryable else FailedPreconditionError
        raise cls(f"the storage controller could not start: {fault.message}", field=fault.field)

    return execute
