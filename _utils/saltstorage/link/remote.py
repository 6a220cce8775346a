"""The controller as the engine uses it: a process that is started where none runs, and started
again when it ends, hangs, or gets another configuration.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from .. import builds, progress
from ..errors import LostError, StorageError, UnavailableError
from ..faults import as_storage_error
from ..ipc import sockets
from ..ipc.calls import Connection
from ..ipc.child import Child
from . import settings, starting
from .asking import pass_on

log = logging.getLogger(__name__)

#: Keys of the configuration that the engine reads.
ENGINE_KEYS = ("workers", "request_max_age")
#: How often the controller is looked at, seconds.
LOOK_INTERVAL = 2.0
#: How long it may leave a look without an answer, seconds, before it is killed and started again,
#: unless the configuration has a ``hang_timeout``. A driver that hangs does not keep it from
#: answering.
HANG_TIMEOUT = 30.0
#: How long a request waits for a controller that is being started again, seconds.
WAIT = 60.0
#: Longest pause between two starts, seconds.
MOST_PAUSE = 30.0


@dataclass(frozen=True, kw_only=True)
class Entry:
    """The journal's knowledge of a request; see :class:`saltstorage.bus.journal.JournalEntry`."""

    state: str
    digest: str
    reply: bytes | None = None

    @classmethod
    def from_wire(cls, data: Mapping[str, Any]) -> Entry:
        """Return the entry in a controller's answer."""
        reply = data["reply"]
        return cls(state=data["state"], digest=data["digest"], reply=None if reply is None else reply.encode("ascii"))


class RemoteService:
    """A controller in a process of its own, with the interface that the engine needs.

    :param opts: the master's options.
    :raises StorageError: the configuration cannot be read.
    :ivar section: the controller's configuration.
    :ivar journal: the controller's journal of requests.
    :ivar when_outdated: called, in another thread, when the configuration has changed in a way that
        needs a new object of this class and of what uses it.
    """

    def __init__(self, opts: Mapping[str, Any]) -> None:
        # Now: it is of the code that this process has loaded.
        builds.own()
        self._opts = opts
        self._external = settings.is_external(opts)
        self._changed = self._now()
        self.section = settings.known(opts)
        self._path = settings.socket_path(opts, self.section)
        self.when_outdated: Callable[[], None] | None = None
        self._child: Child | None = None
        self._watched: Connection | None = None
        self._own = threading.local()
        self._ended = threading.Event()
        self._ready = threading.Event()
        self._fault: StorageError | None = None
        self._watcher = threading.Thread(target=self._watch, name="storage-controller", daemon=True)
        self.journal = RemoteJournal(self)

    def start(self) -> None:
        """Find or start the controller, and look after it from then on.

        :raises StorageError: it cannot serve; the message says why.
        """
        try:
            self._begin()
        except UnavailableError as exc:
            if not self._external:
                raise
            # It comes when the system starts it: requests wait, as they do while it starts again.
            self._fault = exc
        self._watcher.start()

    def execute(self, op: str, args: Mapping[str, Any], caller: str) -> dict[str, Any]:
        """Carry out what a minion asks for.

        :raises LostError: the controller ended meanwhile; whether it carried the operation out is
            not known, and the journal will tell.
        """
        return self.call("execute", {"op": op, "args": dict(args), "caller": caller})  # type: ignore[no-any-return]

    def call(self, op: str, args: Mapping[str, Any]) -> Any:
        """Have the controller answer a call; each thread has a connection of its own.

        :raises UnavailableError: there is no controller, and did not come within :data:`WAIT`.
        :raises LostError: it ended during the call.
        """
        connection = self._connection()
        try:
            return connection.call(op, args, step=pass_on)
        except LostError:
            self._own.__dict__.pop("connection", None)
            connection.close()
            raise

    def close(self) -> None:
        """End the controller, if it was started here: it ends what it is doing within seconds."""
        self._ended.set()
        if self._watcher.is_alive() and self._watcher is not threading.current_thread():
            self._watcher.join(1.0)
        self._end()

    def _connection(self) -> Connection:
        found: Connection | None = getattr(self._own, "connection", None)
        if found is not None and not found.left():
            return found
        until = time.monotonic() + WAIT
        while True:
            left = until - time.monotonic()
            if not self._ready.wait(max(0.0, min(left, 1.0))):
                if self._ended.is_set() or left <= 0:
                    fault = self._fault
                    text = (
                        "the storage controller is being started"
                        if fault is None
                        else f"the storage controller could not start: {fault.message}"
                    )
                    raise UnavailableError(f"{text}; try again later")
                progress.step("waiting for the storage controller to start")
                continue
            try:
                self._own.connection = self._connect()
            except LostError:
                # It ended just now; the watcher sees that too.
                self._ready.clear()
                continue
            return self._own.connection  # type: ignore[no-any-return]

    def _connect(self) -> Connection:
        return sockets.connect(self._path, settings.users(self._opts, self.section), timeout=self._patience())

    def _patience(self) -> float:
        given = self.section.get("hang_timeout")
        # The controller refuses a wrong value.
        return given if isinstance(given, int) and given > 0 else HANG_TIMEOUT

    def _begin(self) -> None:
        """Use the controller that listens, or start one."""
        try:
            watched = self._connect()
        except LostError:
            if self._external:
                # Never one of its own: that would take the service's place.
                raise UnavailableError(starting.NO_SERVICE) from None
            self._child = starting.start(self._opts, self.section, socket=self._path, serve=True)
            self._watched = self._child.connection
        else:
            try:
                starting.check(watched.hello)
                if watched.hello.get("role") != "service":
                    raise UnavailableError("the controller of a former engine is still ending")
            except StorageError:
                watched.close()
                raise
            log.info("storage: a controller that runs as a service of its own is used")
            self._watched = watched
        self._fault = None
        self._ready.set()

    def _end(self) -> None:
        self._ready.clear()
        child, self._child = self._child, None
        watched, self._watched = self._watched, None
        if child is not None:
            child.stop()
        elif watched is not None:
            watched.close()

    def _watch(self) -> None:
        """Look after the controller until the end."""
        pause = 0.0
        while not self._ended.wait(pause or LOOK_INTERVAL):
            try:
                if self._watched is not None and self._answers() and not self._has_changed():
                    self._ready.set()
                    continue
                self._end()
                if (now := self._now()) != self._changed:
                    # Also after a fault that the administrator has mended.
                    section = settings.known(self._opts)
                    if self.when_outdated is not None and self._for_engine(section) != self._for_engine(self.section):
                        log.info("storage: the configuration has changed; the engine starts to serve anew")
                        self.when_outdated()
                        return
                    self._changed, self.section = now, section
                self._begin()
                pause = 0.0
                log.warning("storage: the controller was started again")
            except Exception as exc:  # whatever happens, somebody must look after it
                fault = as_storage_error(exc, "the start of the storage controller")
                if self._fault is None or self._fault.message != fault.message:
                    log.error("storage: the controller cannot start: %s", fault)
                self._fault = fault
                pause = min(MOST_PAUSE, 2 * pause or 0.5)

    def _answers(self) -> bool:
        try:
            if self._watched is not None:
                self._watched.call("ping", {}, timeout=self._patience())
        except (LostError, StorageError) as exc:
            log.error("storage: the controller is gone or hangs (%s); it is started again", exc)
            if self._child is not None:
                # A process that hangs hears nothing else.
                self._child.process.kill()
            return False
        return True

    def _has_changed(self) -> bool:
        if self._now() == self._changed or self._child is None:
            return False
        log.info("storage: the controller's configuration has changed; it is started again")
        return True

    def _for_engine(self, section: Mapping[str, Any]) -> tuple[Any, ...]:
        """Return what the engine itself, and not the controller alone, takes from the
        configuration.
        """
        return (settings.socket_path(self._opts, section), *(section.get(key) for key in ENGINE_KEYS))

    def _now(self) -> int:
        """Return a number that changes with the configuration; 0 for one that is not read."""
        return 0 if self._external else settings.changed(self._opts)


class RemoteJournal:
    """The journal of a controller in another process; see :class:`saltstorage.bus.journal.Journal`.

    Each call can be repeated, so it is, when the controller ends meanwhile.
    """

    def __init__(self, service: RemoteService) -> None:
        self._service = service

    def begin(self, request_id: str, minion: str, digest: str, op: str, signed: float) -> Entry:
        """Record a request unless it is known, and return what is known of it."""
        args = {"request_id": request_id, "minion": minion, "digest": digest, "op": op, "signed": signed}
        return Entry.from_wire(self._call("begin", args))

    def known(self, request_id: str) -> Entry | None:
        """Return what is known of a request, or None."""
        found = self._call("known", {"request_id": request_id})
        return None if found is None else Entry.from_wire(found)

    def finish(self, request_id: str, reply: bytes) -> None:
        """Record the sealed reply."""
        self._call("finish", {"request_id": request_id, "reply": reply.decode("ascii")})

    def prune(self, older_than: float, reads_older_than: float) -> int:
        """Forget requests that are too old to matter."""
        return int(self._call("prune", {"older_than": older_than, "reads_older_than": reads_older_than}))

    def _call(self, name: str, args: Mapping[str, Any]) -> Any:
        for _ in range(2):
            try:
                return self._service.call(f"journal_{name}", args)
            except LostError:
                continue
        raise UnavailableError("the storage controller ends again and again; the master's log says why")
