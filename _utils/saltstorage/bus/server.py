"""The controller's end of the bus: takes requests from the master's event bus, has them carried out, and replies."""

from __future__ import annotations

import contextlib
import heapq
import json
import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import salt.crypt

from ..errors import (
    AbortedError,
    AlreadyExistsError,
    FailedPreconditionError,
    InternalError,
    ResourceExhaustedError,
    StorageError,
    UnavailableError,
    UnimplementedError,
)
from ..faults import as_storage_error
from ..progress import Heartbeat, Progress, Tell, reported
from . import envelope
from .eventbus import BusLostError, EventBus
from .keys import MinionKeys
from .pool import FairPool, FullError
from .publisher import Publisher
from .refusals import Refusals
from .unrecorded import Unrecorded

log = logging.getLogger(__name__)

#: Carries out an operation: ``execute(op, args, caller)``; ``caller`` is the proven id of the minion.
Execute = Callable[[str, dict[str, Any], str], dict[str, Any]]
#: Fires an event on the bus of one minion: ``publish(minion, tag, data)``.
Publish = Callable[[str, str, dict[str, str]], bool]

#: How long a minion must wait for the same reply to be published again, seconds; its own repeats are slower.
REPEAT_INTERVAL = 0.5
#: Events on the master's bus that say how far a long operation has come; the id of the operation follows.
PROGRESS_TAG = "storage/progress/"
#: How often the journal is tidied up, seconds, where requests do not get too old sooner.
TIDY_INTERVAL = 600.0
#: Largest sealed error, bytes: what was refused needs no more, and the journal keeps it.
MAX_ERROR = 32 * 1024
#: How long a reply is kept for repeats, seconds; what was only read, while a repeat would be taken at all.
KEEP_REPLIES = 24 * 3600.0


class JournalEntry(Protocol):
    """What the journal has of a request.

    :ivar state: ``new``: carry it out; ``running``: it is being carried out; ``done``: ``reply`` is the answer; ``old``: it never ended,
        and is too old to be carried out; ``full``: there are too many of this minion, and it was not recorded.
    :ivar digest: digest of the signed bytes, when the request first came.
    :ivar reply: the sealed reply; None for one that is done when that is not kept any more.
    """

    @property
    def state(self) -> str:
        """``new``, ``running``, ``done``, ``old`` or ``full``."""

    @property
    def digest(self) -> str:
        """SHA-256, hexadecimal."""

    @property
    def reply(self) -> bytes | None:
        """The sealed reply, or None."""


class Journal(Protocol):
    """Memory of requests: each is carried out once, and answered as often as it is repeated."""

    def begin(self, request_id: str, minion: str, digest: str, op: str, signed: float) -> JournalEntry:
        """Record a request unless it is known, atomically, and return what is known of it.

        One that was running when its engine died comes back as ``new``, unless it is too old and nobody can be waiting for it.
        """

    def known(self, request_id: str) -> JournalEntry | None:
        """Return what is known of a request, or None; nothing is recorded."""

    def finish(self, request_id: str, reply: bytes) -> None:
        """Record the sealed reply."""

    def prune(self, older_than: float, reads_older_than: float) -> int:
        """Forget finished requests that were signed before a time, seconds since the epoch, and those that only read from another."""


class Server:
    """Serves requests until it is stopped.

    :param opts: the master's options.
    :param execute: carries out one operation; called in worker threads.
    :param journal: memory of requests.
    :param workers: operations at once, default 8.
    :param pending: requests of one minion that may wait, default 64; more are answered with RESOURCE_EXHAUSTED.
    :param request_max_age: largest difference between the time in a request and now, seconds, default 300.
    :param working_after: when to tell a minion that its request is still being worked on, seconds, default 1.
    :param publish: sends a reply; default through a job of ``event.fire``.
    :param tell: takes how far a long operation has come; default fires it on the master's event bus.
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
        self._execute = execute
        self._journal = journal
        self._max_age = request_max_age
        self._working_after = working_after
        self._keys = MinionKeys(opts)
        self._master = salt.crypt.MasterKeys(opts)
        self._refusals = Refusals()
        self._tell = tell or progress_events(opts)
        self._heartbeat = Heartbeat(self._tell)
        self._progress: dict[str, Progress] = {}
        self._own_publisher = Publisher(opts) if publish is None else None
        self._publish: Publish = publish or self._own_publisher  # type: ignore[assignment]
        self._pool = FairPool(workers, pending, name="storage-worker")
        # Replies have threads of their own: "working" must get out while every worker is busy.
        at_end = self._own_publisher.close_thread if self._own_publisher is not None else None
        self._replies = FairPool(4, 2 * pending, name="storage-reply", at_end=at_end)
        self._lock = threading.Lock()
        self._active: dict[str, envelope.Request] = {}
        self._answered: dict[str, float] = {}
        self._unrecorded = Unrecorded(journal.finish)
        self._due: list[tuple[float, str]] = []
        self._stop = threading.Event()
        self._pruned = time.monotonic()

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
                    self._tick()
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
        """Let running operations finish within ``timeout`` seconds; what does not is repeated by its minion later."""
        self._stop.set()
        if not self._pool.close(timeout):
            log.warning("storage: operations were still running when the controller stopped; they are taken up at the next start")
        self._heartbeat.close(1.0)
        # Operations that just ended have their replies waiting here.
        self._replies.close(1.0, drop=False)
        if self._own_publisher is not None:
            self._own_publisher.close()

    def handle(self, tag: str, data: Any) -> None:
        """Take one event; whatever is wrong with it, nothing is raised and nothing of its contents is logged."""
        try:
            request = envelope.open_request(_unwrap(data), self._keys.find)
            if tag != envelope.REQUEST_TAG + request.id:
                raise envelope.RefusedError("its tag is of another request", request.minion)
        except envelope.RefusedError as exc:
            self._refusals.note(exc.reason, exc.minion)
            return
        except Exception as exc:
            # What is read here is a stranger's: even a fault of this code must not let them fill the log.
            self._refusals.note(f"it could not be read ({type(exc).__name__})", None)
            return
        if request.op == envelope.PROGRESS:
            self._hear(request)
            return
        with self._lock:
            active = self._active.setdefault(request.id, request)
        if active is not request:
            if active.digest == request.digest:
                self._tell_working(active)
            elif self._may_answer(request):
                self._send_error(request, _other_contents())
            return
        try:
            self._pool.submit(request.minion, lambda: self._serve(request))
        except FullError:
            self._forget(request)
            self._send_error(
                request,
                ResourceExhaustedError("too many requests of this minion are waiting; run fewer at once, or try again later"),
            )
            return
        heapq.heappush(self._due, (time.monotonic() + self._working_after, request.id))

    def _hear(self, request: envelope.Request) -> None:
        """Pass on what a minion says of a long step of its own, as far as it may say so."""
        if request.version != envelope.VERSION or abs(request.time - time.time()) > self._max_age:
            self._refusals.note("a report of progress that is too old, or of another version", request.minion)
            return
        try:
            wire = reported(request.minion, request.args).to_wire()
        except StorageError:
            self._refusals.note("a malformed report of progress", request.minion)
            return
        # As with "working", it must get out while every worker is busy.
        with contextlib.suppress(FullError):
            self._replies.submit(request.minion, lambda: self._tell(wire))

    def _serve(self, request: envelope.Request) -> None:
        """Do all for one new or repeated request; runs in a worker thread."""
        try:
            reply, repeated = self._reply_for(request)
        finally:
            self._forget(request)
        if not repeated or self._may_answer(request):
            self._submit_reply(request.minion, lambda: self._publish_sealed(request, reply))

    def _reply_for(self, request: envelope.Request) -> tuple[bytes, bool]:
        """Return the sealed reply, carrying the operation out if that is yet to be done, and whether it is a repeated one."""
        if (unrecorded := self._unrecorded.find(request.id)) is not None:
            digest, reply = unrecorded
            return (reply if digest == request.digest else self._seal_error(request, _other_contents())), True
        try:
            error = self._refuse(request)
            if error is not None:
                return self._seal_error(request, error), True
            entry = self._journal.begin(request.id, request.minion, request.digest, request.op, request.time)
        except Exception as exc:  # whatever the database raises
            fault = as_storage_error(exc, "the journal of requests")
            return self._seal_error(request, UnavailableError(f"the controller's catalog does not answer: {fault.message}")), True
        if entry.digest != request.digest:
            return self._seal_error(request, _other_contents()), True
        if entry.state == "done" and entry.reply is not None:
            return entry.reply, True
        if entry.state == "running":
            return self._seal(request, {"status": "working"}), True
        if entry.state != "new":
            return self._seal_error(request, self._not_again(entry.state)), True
        log.debug("storage: request %s of %s: %s", request.id, request.minion, request.op)
        reply = self._carry_out(request)
        self._unrecorded.record(request, reply)
        return reply, False

    def _refuse(self, request: envelope.Request) -> StorageError | None:
        if request.version != envelope.VERSION:
            return UnimplementedError(
                f"the controller speaks version {envelope.VERSION} of the protocol, not {request.version}; "
                "run saltutil.sync_all on the minion and salt-run saltutil.sync_all on the master"
            )
        # A known one may be old: its minion has been waiting, perhaps for the engine to come back.
        skew = request.time - time.time()
        if abs(skew) > self._max_age and self._journal.known(request.id) is None:
            when = f"{abs(skew):.0f} s {'after' if skew > 0 else 'before'} it came"
            return FailedPreconditionError(
                f"the request was signed {when}, by the clocks of minion and master; "
                f"at most {self._max_age:.0f} s are allowed: set both clocks right"
            )
        if self._unrecorded.full and ((known := self._journal.known(request.id)) is None or known.state != "done"):
            return UnavailableError("the controller's catalog takes no answers at present, so nothing is carried out; its log says why")
        return None

    def _not_again(self, state: str) -> StorageError:
        """Return why a request that the journal knows, or has no room for, is neither carried out nor answered."""
        if state == "full":
            return ResourceExhaustedError(f"too many requests of this minion in the last {self._max_age:.0f} s; try again later")
        if state == "done":
            return AbortedError("the answer to this request is not kept any more, since this minion asked for so much since; ask anew")
        return AbortedError("the engine that began this request ended, and the request is too old to be taken up again; ask anew")

    def _carry_out(self, request: envelope.Request) -> bytes:
        """Return the sealed reply to a request, whatever becomes of it: without one, the minion would wait for ever."""
        try:
            try:
                with self._heartbeat.operation(request.op, request.minion, request.args) as progress:
                    self._progress[request.id] = progress
                    data = self._execute(request.op, request.args, request.minion)
            except BaseException as exc:  # every fault becomes a typed error for the minion; some libraries even exit
                return self._seal_error(request, as_storage_error(exc, f"operation {request.op}"))
            try:
                return self._seal(request, {"status": "done", "ok": True, "data": data})
            except ValueError as exc:
                return self._seal_error(request, as_storage_error(exc, f"the result of {request.op}"))
        except Exception as exc:  # an error that is no plain data at all
            as_storage_error(exc, "sealing a reply")
            return self._seal_error(request, InternalError("the reply of the controller could not be sent; its log has more"))
        finally:
            self._progress.pop(request.id, None)

    def _tick(self) -> None:
        """Do what is due: tell minions that their requests are still being worked on, and tidy up now and then."""
        now = time.monotonic()
        while self._due and self._due[0][0] <= now:
            active = self._active.get(heapq.heappop(self._due)[1])
            if active is not None:
                self._tell_working(active)
        if self._unrecorded.due():
            self._pool.submit("", self._unrecorded.retry)
        if now - self._pruned > min(TIDY_INTERVAL, self._max_age):
            self._pruned = now
            self._pool.submit("", self._prune)

    def _prune(self) -> None:
        now = time.time()
        self._journal.prune(now - KEEP_REPLIES, now - 2 * self._max_age)

    def _wait(self) -> float:
        """Return how long to wait for the next event, seconds; never 0, which Salt takes for ever."""
        return min(0.5, max(0.01, self._due[0][0] - time.monotonic())) if self._due else 0.5

    def _tell_working(self, request: envelope.Request) -> None:
        if self._may_answer(request):
            progress = self._progress.get(request.id)
            content = {"status": "working", "text": progress.text if progress is not None else "waiting for its turn"}
            self._submit_reply(request.minion, lambda: self._publish_sealed(request, self._seal(request, content)))

    def _may_answer(self, request: envelope.Request) -> bool:
        """Return whether a minion may be answered: repeated events, replayed by anyone, must not multiply jobs."""
        now = time.monotonic()
        with self._lock:
            if now - self._answered.get(request.id, 0.0) < REPEAT_INTERVAL:
                return False
            if len(self._answered) > 10_000:
                self._answered = {key: at for key, at in self._answered.items() if now - at < REPEAT_INTERVAL}
            self._answered[request.id] = now
        return True

    def _send_error(self, request: envelope.Request, error: StorageError) -> None:
        self._submit_reply(request.minion, lambda: self._publish_sealed(request, self._seal_error(request, error)))

    def _submit_reply(self, minion: str, work: Callable[[], None]) -> None:
        try:
            self._replies.submit(minion, work)
        except FullError:
            log.debug("storage: too many replies to minion %s are waiting; it will ask again", minion)

    def _publish_sealed(self, request: envelope.Request, reply: bytes) -> None:
        self._publish(request.minion, envelope.REPLY_TAG + request.id, json.loads(reply))

    def _seal(self, request: envelope.Request, content: Mapping[str, Any]) -> bytes:
        return json.dumps(envelope.seal_reply(self._master, request, content)).encode("ascii")

    def _seal_error(self, request: envelope.Request, error: StorageError) -> bytes:
        with contextlib.suppress(ValueError):
            sealed = self._seal(request, {"status": "done", "ok": False, "error": error.to_wire()})
            if len(sealed) <= MAX_ERROR:
                return sealed
        # Details that are no plain data, or too many of them; code and message matter more.
        # A text may hold what cannot be encoded, such as the name of a file that is no UTF-8.
        message = error.message[:4096].encode("utf-8", "backslashreplace").decode()
        wire: dict[str, Any] = {"code": error.code, "message": message, "field": None, "details": {}}
        return self._seal(request, {"status": "done", "ok": False, "error": wire})

    def _forget(self, request: envelope.Request) -> None:
        with self._lock:
            self._active.pop(request.id, None)


def progress_events(opts: Mapping[str, Any]) -> Tell:
    """Return what fires an event ``storage/progress/<id>`` on the master's bus; without a running master it does nothing.

    :param opts: the master's options.
    """
    bus = EventBus("master", opts)

    def tell(data: dict[str, Any]) -> None:
        try:
            bus.fire(PROGRESS_TAG + data["id"], data)
        except (BusLostError, PermissionError):
            log.debug("storage: nobody hears of %s", data["text"])

    return tell


def _unwrap(data: Any) -> Any:
    """Return what the minion sent; Salt delivers it bare or, for some ways to send, within the load that carried it."""
    inner = data.get("data") if isinstance(data, dict) else None
    return inner if isinstance(inner, dict) and "body" in inner else data


def _other_contents() -> StorageError:
    return AlreadyExistsError("a request with this id but other contents is known to the controller; the sender must choose a new id")
