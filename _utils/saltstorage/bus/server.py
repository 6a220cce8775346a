"""The controller's end of the bus: takes requests from the master's event bus, has them carried
out, and replies.
"""

from __future__ import annotations

import heapq
import logging
import threading
import time
from collections.abc import Mapping
from typing import Any

from ..errors import LostError, ResourceExhaustedError, StorageError
from ..faults import as_storage_error
from ..progress import Tell, reported
from . import envelope
from .eventbus import BusLostError, EventBus
from .execution import Execute, Execution, other_contents
from .journal import Journal
from .keys import MinionKeys
from .pool import FairPool, FullError
from .refusals import Refusals
from .replies import Publish, Replies
from .reports import progress_events
from .sealing import Sealer

log = logging.getLogger(__name__)

#: How often the journal is pruned, seconds; more often where requests get too old sooner.
TIDY_INTERVAL = 600.0


class Server:
    """Serves requests until it is stopped.

    :param opts: the master's options.
    :param execute: carries out one operation; called in worker threads.
    :param journal: memory of requests.
    :param workers: operations at once, default 8.
    :param pending: requests of one minion that may wait, default 64; the next ones are answered
        with RESOURCE_EXHAUSTED.
    :param request_max_age: largest difference between the time in a request and now, seconds,
        default 300.
    :param working_after: when to tell a minion that its request is still being worked on, seconds,
        default 1.
    :param publish: sends a reply; default through a job of ``event.fire``.
    :param tell: takes how far a long operation has come; default fires it on the master's event
        bus.
    """

    def __init__(
        self,
        opts: Mapping[str, Any],
        execute: Execute,
        journal: Journal,
        *,
        workers: int = 8,
        pending: int = 64,
        request_max_age: float = 300.0,
        working_after: float = 1.0,
        publish: Publish | None = None,
        tell: Tell | None = None,
    ) -> None:
        self._opts = opts
        self._max_age = request_max_age
        self._working_after = working_after
        self._tell = tell or progress_events(opts)
        self._keys = MinionKeys(opts)
        self._refusals = Refusals()
        self._sealer = Sealer(opts)
        self.replies = Replies(opts, 2 * pending, publish)
        self.execution = Execution(execute, journal, self._sealer, request_max_age, self._tell)
        self.workers = FairPool(workers, pending, name="storage-worker")
        self._lock = threading.Lock()
        self._active: dict[str, envelope.Request] = {}
        self._due: list[tuple[float, str]] = []
        self._stop = threading.Event()
        self._pruned = time.monotonic()

    @property
    def busy(self) -> bool:
        """Whether a request is being worked on or waits for its turn."""
        return bool(self._active)

    def run(self) -> None:
        """Serve until :meth:`stop` is called. Call it in the thread that made the server."""
        bus = EventBus("master", self._opts)
        try:
            log.info("storage: the controller listens for requests")
            while not self._stop.is_set():
                try:
                    event = bus.receive(envelope.REQUEST_TAG, self._wait())
                    if event is not None:
                        self.handle(*event)
                    self.tick()
                except BusLostError:
                    # The master is starting or stopping.
                    self._stop.wait(0.2)
                except Exception as exc:  # no event may end the engine
                    as_storage_error(exc, "taking a request")
                    self._stop.wait(0.2)
        finally:
            bus.close()

    def stop(self) -> None:
        """Make :meth:`run` return soon; may be called from a signal handler."""
        self._stop.set()

    def close(self, timeout: float = 3.0) -> None:
        """Let running operations finish within ``timeout`` seconds; a minion repeats the request
        of any other one later.
        """
        self._stop.set()
        if not self.workers.close(timeout):
            log.warning("storage: operations were still running when the controller stopped; they are taken up at the next start")
        self.execution.close(1.0)
        # Operations that just ended have their replies waiting here.
        self.replies.close(1.0)

    def handle(self, tag: str, data: Any) -> None:
        """Take one event. A wrong event raises nothing, and nothing of its contents is logged."""
        try:
            request = envelope.open_request(_unwrap(data), self._keys.find)
            if tag != envelope.REQUEST_TAG + request.id:
                raise envelope.RefusedError("its tag is of another request", request.minion)
        except envelope.RefusedError as exc:
            self._refusals.note(exc.reason, exc.minion)
            return
        except Exception as exc:
            # A stranger wrote the event: even a fault of this code must not let them fill the log.
            self._refusals.note(f"it could not be read ({type(exc).__name__})", None)
            return
        if request.op == envelope.PROGRESS:
            self._pass_on(request)
            return
        with self._lock:
            active = self._active.setdefault(request.id, request)
        if active is not request:
            if active.digest == request.digest:
                self._tell_working(active)
            elif self.replies.may_answer(request):
                self._send_error(request, other_contents())
            return
        try:
            self.workers.submit(request.minion, lambda: self._serve(request))
        except FullError:
            self._forget(request)
            self._send_error(
                request,
                ResourceExhaustedError("too many requests of this minion are waiting; run fewer at once, or try again later"),
            )
            return
        heapq.heappush(self._due, (time.monotonic() + self._working_after, request.id))

    def tick(self) -> None:
        """Do the work that is due: tell minions that their requests are being worked on, and tidy
        up now and then.
        """
        now = time.monotonic()
        while self._due and self._due[0][0] <= now:
            active = self._active.get(heapq.heappop(self._due)[1])
            if active is not None:
                self._tell_working(active)
        if self.execution.unrecorded.due():
            self.workers.submit("", self.execution.unrecorded.retry)
        if now - self._pruned > min(TIDY_INTERVAL, self._max_age):
            self._pruned = now
            self.workers.submit("", self.execution.prune)

    def _wait(self) -> float:
        """Return how long to wait for the next event, seconds; never 0, which Salt takes for
        ever.
        """
        return min(0.5, max(0.01, self._due[0][0] - time.monotonic())) if self._due else 0.5

    def _pass_on(self, report: envelope.Request) -> None:
        """Pass on a minion's report of a long step of its own, as far as the minion may make it."""
        if report.version != envelope.VERSION or abs(report.time - time.time()) > self._max_age:
            self._refusals.note("a report of progress that is too old, or of another version", report.minion)
            return
        try:
            wire = reported(report.minion, report.args).to_wire()
        except StorageError:
            self._refusals.note("a malformed report of progress", report.minion)
            return
        # As with "working", it must get out while every worker is busy.
        self.replies.submit(report.minion, lambda: self._tell(wire))

    def _serve(self, request: envelope.Request) -> None:
        """Do all for one new or repeated request; runs in a worker thread."""
        try:
            reply, repeated = self.execution.reply(request)
        except LostError as exc:
            log.warning(
                "storage: the controller ended during request %s of %s, which is taken up again: %s", request.id, request.minion, exc
            )
            return
        finally:
            self._forget(request)
        if not repeated or self.replies.may_answer(request):
            self.replies.send(request, lambda: reply)

    def _tell_working(self, request: envelope.Request) -> None:
        if self.replies.may_answer(request):
            text = self.execution.text(request)
            self.replies.send(request, lambda: self._sealer.working(request, text))

    def _send_error(self, request: envelope.Request, error: StorageError) -> None:
        self.replies.send(request, lambda: self._sealer.failed(request, error))

    def _forget(self, request: envelope.Request) -> None:
        with self._lock:
            self._active.pop(request.id, None)


def _unwrap(data: Any) -> Any:
    """Return the minion's own data; Salt delivers it bare or, for some ways to send, within the
    load that carried it.
    """
    inner = data.get("data") if isinstance(data, dict) else None
    return inner if isinstance(inner, dict) and "body" in inner else data
