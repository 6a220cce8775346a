"""The controller as a process of its own: answers calls on connections, in the storage
environment's Python.

It is a child of the engine, the runner or a masterless minion, or a service of the system. No Salt
is imported here.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections.abc import Mapping
from typing import Any

from .. import builds
from ..errors import FailedPreconditionError, InternalError, InvalidArgumentError, LostError, StorageError, UnavailableError
from ..faults import as_storage_error, describe
from ..ipc import sockets
from ..ipc.calls import Step
from ..progress import Progress, of_thread
from .access import python_path
from .service import Service

log = logging.getLogger(__name__)

PROTOCOL = 1
#: How often a service that could not start is tried again, seconds; its database may be back by
#: then.
RETRY_INTERVAL = 60.0
#: How long the calls that run may take to end when the process ends, seconds. A minion repeats the
#: request of any other one.
END_TIMEOUT = 3.0
#: How long a call waits for the service to start, seconds.
START_TIMEOUT = 30.0
#: How often a step is told, seconds.
STEP_INTERVAL = 0.2


class Process:
    """Answers the calls of all connections with one service.

    :param role: how it was started: ``child`` or ``service``, for its hello.
    """

    def __init__(self, role: str) -> None:
        self._role = role
        self._build = builds.own()
        self._settings: dict[str, Any] | None = None
        self._parent: dict[str, Any] = {}
        self._service: Service | None = None
        self._started = False
        self._fault: StorageError | None = None
        self._tried = threading.Event()
        self._making = threading.Lock()
        self._listener: sockets.Listener | None = None
        self._active = 0
        self._changed = threading.Condition()
        self._ending = threading.Event()

    def hello(self) -> dict[str, Any]:
        """Return what this process says of itself at the beginning of a connection."""
        python = ".".join(map(str, sys.version_info[:3]))
        own = {
            "protocol": PROTOCOL,
            "version": builds.VERSION,
            "build": self._build,
            "python": python,
            "pid": os.getpid(),
            "role": self._role,
        }
        return {**own, "parent": self._parent}

    def handle(self, op: str, args: dict[str, Any], step: Step) -> Any:
        """Carry out a call.

        :raises StorageError: as the call says.
        """
        if op == "ping":
            return {}
        with self._changed:
            if self._ending.is_set():
                raise UnavailableError("the storage controller is ending; try again")
            self._active += 1
        try:
            with of_thread(_Told(step)):
                return self._call(op, args)
        finally:
            with self._changed:
                self._active -= 1
                self._changed.notify_all()

    def configure(self, settings: dict[str, Any], *, serve: bool, parent: Mapping[str, Any] | None = None) -> None:
        """Take the settings, and start the service if it is to serve.

        :raises StorageError: it cannot serve; the settings are forgotten.
        """
        self._parent = dict(parent or {})
        self._settings = settings
        if serve:
            self._make(start=True, patience=None)

    def serve_always(self, settings: dict[str, Any]) -> None:
        """Start the service, and try again until it starts; meanwhile, each call is told why."""
        self._settings = settings
        while not self._ending.is_set():
            try:
                self._make(start=True, patience=None)
                self._tried.set()
                return
            except Exception as exc:  # the process must live on, whatever is wrong
                fault = as_storage_error(exc, "the start of the storage controller")
                if self._fault is None or self._fault.message != fault.message:
                    log.error("storage: the controller cannot start: %s", fault)
                self._fault = fault
                self._tried.set()
                self._ending.wait(RETRY_INTERVAL)

    def listen(self, path: str, *, group: int | None = None, users: frozenset[int] = frozenset()) -> None:
        """Serve others at a socket, in threads of their own.

        :param path: absolute path; a missing directory is made, with mode 0700.
        :param group: id of a group that may connect too.
        :param users: ids of the users that may ask, beside root and this process's own.
        :raises StorageError: the socket cannot be made.
        """
        allowed = {0, os.geteuid(), *users}
        try:
            os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
            mode = 0o600 if group is None and not users else 0o660
            self._listener = sockets.Listener(path, may=lambda peer: peer.uid in allowed, mode=mode, group=group)
        except LostError as exc:
            raise UnavailableError(str(exc)) from None
        except OSError as exc:
            raise FailedPreconditionError(
                f"the socket {path} cannot be made: {exc.strerror}; check the owner and mode of its directory, or set storage:socket"
            ) from None
        listener = self._listener
        threading.Thread(target=listener.serve, args=(lambda peer: self.handle, self.hello), name="storage-listener", daemon=True).start()

    def end(self) -> None:
        """End: take no more calls, let those that run end within seconds, and let go of
        everything.
        """
        with self._changed:
            self._ending.set()
            deadline = time.monotonic() + END_TIMEOUT
            while self._active and (left := deadline - time.monotonic()) > 0:
                self._changed.wait(left)
            if self._active:
                log.warning("storage: operations were still running when the controller stopped; they are taken up at the next start")
        if self._listener is not None:
            self._listener.close()
        if self._service is not None:
            self._service.close()

    def _call(self, op: str, args: dict[str, Any]) -> Any:
        if op == "settings":
            return self._take_settings(**args)
        if op == "execute":
            service = self._serving(start=args.pop("start", False))
            return service.execute(args["op"], args["args"], args["caller"])
        if op == "admin":
            from . import desk

            if args["call"] == "drivers":
                # A child that only lists drivers has no settings.
                python_path.use(python_path.folders((self._settings or {}).get("storage", {}).get("python_path")))
                return desk.drivers(args["args"])
            if args["call"] == "validate":
                # In a process of its own, so it needs no catalog.
                return desk.try_backend(self._settings, args["args"])
            return desk.call(self._serving(), args["call"], args["args"])
        if op.startswith("journal_"):
            return self._journal(op.removeprefix("journal_"), args)
        raise InvalidArgumentError(f"the controller has no call {op!r}", field="op")

    def _take_settings(
        self, settings: dict[str, Any], socket: str | None, serve: bool, log_level: int, parent: Mapping[str, Any]
    ) -> dict[str, Any]:
        if self._settings is not None:
            raise InternalError("the controller has its settings already")
        logging.getLogger().setLevel(log_level)
        self.configure(settings, serve=serve, parent=parent)
        if socket is not None:
            self.listen(socket)
        return {}

    def _journal(self, name: str, args: dict[str, Any]) -> Any:
        journal = self._serving().journal
        if name == "finish":
            journal.finish(args["request_id"], args["reply"].encode("ascii"))
            return None
        if name == "prune":
            return journal.prune(**args)
        if name not in ("begin", "known"):
            raise InvalidArgumentError(f"the journal has no call {name!r}", field="op")
        entry = journal.begin(**args) if name == "begin" else journal.known(**args)
        if entry is None:
            return None
        reply = entry.reply
        return {"state": entry.state, "digest": entry.digest, "reply": None if reply is None else reply.decode("ascii")}

    def _serving(self, *, start: bool = False) -> Service:
        """Return the service.

        :param start: settle first what a crash left, and load the drivers, as an operation that
            changes something needs where no engine does it.
        """
        if self._role == "service" and not self._started:
            # Its own thread makes it.
            self._tried.wait(START_TIMEOUT)
        if self._role == "service" and not self._started:
            fault = self._fault
            if fault is None:
                raise UnavailableError("the storage controller is starting; try again")
            cls = UnavailableError if fault.retryable else FailedPreconditionError
            raise cls(f"the storage controller could not start: {fault.message}", field=fault.field)
        if self._service is None or (start and not self._started):
            from .operations.backends import LOAD_TIMEOUT

            # Nobody else waits, so the operation may take as long as the driver.
            return self._make(start=start, patience=LOAD_TIMEOUT)
        return self._service

    def _make(self, *, start: bool, patience: float | None) -> Service:
        with self._making:
            if self._settings is None:
                raise InternalError("the controller has no settings yet")
            if self._service is None:
                service = Service(self._settings)
                python_path.use(service.config.python_path)
                self._service = service
            service = self._service
            if start and not self._started:
                try:
                    service.start(patience=patience)
                except BaseException:
                    self._service = None
                    service.close()
                    raise
                self._started = True
            return service


class _Told(Progress):
    """The progress of a call, told to the end that asked."""

    def __init__(self, tell: Step) -> None:
        super().__init__("call", None)
        self._tell = tell
        self._last = 0.0

    def step(self, text: str, *, done: float | None = None, total: float | None = None) -> None:
        super().step(text, done=done, total=total)
        now = time.monotonic()
        if now - self._last >= STEP_INTERVAL:
            self._last = now
            self._tell({"text": self._step[0], "done": done, "total": total})


def log_to_stderr() -> None:
    """Log to the standard error, one line a record and its level first: its parent passes them
    on.
    """
    # A Salt in the same Python has a handler of its own, which keeps most records to itself.
    logging.basicConfig(stream=sys.stderr, format="%(levelname)s %(message)s", level=logging.WARNING, force=True)
    logging.captureWarnings(True)
    threading.excepthook = lambda args: log.error("storage: a thread failed: %s", describe(args.exc_value or Exception()))
