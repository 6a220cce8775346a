"""The minion's end of the bus: asks the controller and waits for its answer."""

from __future__ import annotations

import logging
import multiprocessing.util
import os
import threading
import time
from collections.abc import Mapping, MutableMapping
from typing import Any

from ..errors import (
    DeadlineExceededError,
    FailedPreconditionError,
    InvalidArgumentError,
    PermissionDeniedError,
    UnavailableError,
    from_wire,
)
from . import envelope
from .eventbus import BusLostError, EventBus
from .keys import OwnKeys

log = logging.getLogger(__name__)

#: A first answer takes about 0.15 s, and "working" comes after 1 s at the latest.
FIRST_REPEAT = 1.5
#: Part of the answer timeout after which to ask again, where that is later: each repeat is
#: answered, and each answer is a minion's job.
PATIENCE_TO_REPEAT = 0.15
WORKING_REPEAT = 5.0
MAX_REPEAT = 15.0
#: How long a controller that was working may be silent: an engine that was killed needs some
#: seconds to be back.
SILENCE = 60.0
#: An idle subscription is not kept: the daemon would have to buffer events for it, and may have
#: been restarted.
MAX_IDLE = 5.0
_CONTEXT_KEY = "saltstorage.bus.links"


class BusClient:
    """Calls operations of the controller, from a job of a minion or from ``salt-call`` beside a
    running minion.

    Requests go over the minion's local event bus to the daemon, which is connected to the master
    already, and the replies come back there.

    :param opts: the minion's options.
    :param context: ``__context__``; keeps the connection for further calls in the same process.
    :param answer_timeout: how long to wait for a first sign of the controller, seconds.

    >>> client = BusClient(__opts__, __context__, answer_timeout=10)  # doctest: +SKIP
    >>> client.call("inventory", {})  # doctest: +SKIP
    {'volumes': […], …}
    """

    def __init__(self, opts: Mapping[str, Any], context: MutableMapping[str, Any] | None = None, *, answer_timeout: float) -> None:
        self._opts = opts
        self._context = context
        self.answer_timeout = answer_timeout

    def call(self, op: str, args: Mapping[str, Any], timeout: float | None = None) -> dict[str, Any]:
        """Have the controller carry out ``op`` and return its result.

        A request is repeated with the same id until it is answered, and carried out once.

        :param op: operation, such as ``create``.
        :param args: its arguments, plain data.
        :param timeout: most seconds to wait in all; default as long as the controller works on it.
        :raises UnavailableError: no controller answers.
        :raises FailedPreconditionError: no minion daemon runs on this machine.
        :raises DeadlineExceededError: ``timeout`` has passed; the operation may still end.
        :raises StorageError: the error of the operation, with its own type.
        """
        link = self._link()
        try:
            try:
                request = envelope.seal_request(link.keys.private(), self._opts["id"], op, args)
            except ValueError as exc:
                raise InvalidArgumentError(str(exc)) from None
            link.open()
            reply = _Exchange(link, self._opts["id"], request, op, self.answer_timeout, timeout).run()
        except BusLostError:
            raise FailedPreconditionError(
                f"no salt-minion daemon of {self._opts['id']!r} runs on this machine, and requests to the storage controller go "
                "through it: start it, or work without a master (salt-call --local)"
            ) from None
        except PermissionError:
            raise PermissionDeniedError("the minion's event bus may not be used by this user; run this as root") from None
        finally:
            link.used = time.monotonic()
            if not self._keep_open():
                link.close()
        if reply.ok:
            return reply.data
        raise from_wire(reply.error or {})

    def close(self) -> None:
        """Free the sockets of this process and thread."""
        self._link().close()

    def _keep_open(self) -> bool:
        # A job in a process of its own, and salt-call, end soon; in a thread of the daemon nobody
        # would read on.
        return self._context is not None and (bool(self._opts.get("multiprocessing", True)) or self._opts.get("__cli") == "salt-call")

    def _link(self) -> _Link:
        if self._context is None:
            return _Link(self._opts)
        links = self._context.get(_CONTEXT_KEY)
        if links is None:
            links = self._context[_CONTEXT_KEY] = _Links()
        return links.here(self._opts)


class _Link:
    """A connection to the local event bus with the keys; of one thread in one process."""

    def __init__(self, opts: Mapping[str, Any]) -> None:
        self.bus = EventBus("minion", opts)
        self.keys = OwnKeys(opts)
        self.used = time.monotonic()

    def open(self) -> None:
        if time.monotonic() - self.used > MAX_IDLE:
            self.bus.close()
        self.bus.open()

    def close(self) -> None:
        self.bus.close()


class _Links:
    """The links of a ``__context__``, one per process and thread: sockets must not be shared
    across either.
    """

    def __init__(self) -> None:
        self._links: dict[tuple[int, int], _Link] = {}

    def here(self, opts: Mapping[str, Any]) -> _Link:
        key = (os.getpid(), threading.get_ident())
        link = self._links.get(key)
        if link is None:
            link = self._links[key] = _Link(opts)
            # Also run at the end of a forked job, where atexit is not.
            multiprocessing.util.Finalize(None, link.close, exitpriority=10)
        return link

    def __deepcopy__(self, memo: dict[int, Any]) -> _Links:
        return self

    def __reduce__(self) -> tuple[type[_Links], tuple[()]]:
        # A context may be sent to another process; sockets cannot.
        return _Links, ()


class _Exchange:
    """One request and the wait for its answer."""

    def __init__(
        self, link: _Link, minion: str, request: envelope.SealedRequest, op: str, answer_timeout: float, timeout: float | None
    ) -> None:
        self._link = link
        self._minion = minion
        self._request = request
        self._op = op
        self._start = time.monotonic()
        self._answer_timeout = answer_timeout
        self._deadline = self._start + timeout if timeout is not None else None
        self._heard: float | None = None
        self._warned = False

    def run(self) -> envelope.Reply:
        send_at = self._start
        first = min(max(FIRST_REPEAT, PATIENCE_TO_REPEAT * self._answer_timeout), MAX_REPEAT)
        interval = first
        while True:
            now = time.monotonic()
            give_up = self._give_up(now)
            if now >= send_at:
                self._send()
                send_at = now + interval
                interval = min(interval * 1.5, MAX_REPEAT)
            reply = self._receive(min(send_at, give_up) - now)
            if reply is None:
                continue
            if reply.status == "done":
                return reply
            if self._heard is None:
                interval = max(WORKING_REPEAT, first)
            self._heard = time.monotonic()
            log.info("storage: the controller works on it for %.0f s: %s", self._heard - self._start, reply.text or self._op)
            send_at = self._heard + interval

    def _give_up(self, now: float) -> float:
        """Return when to give up, or raise if that is now."""
        if self._deadline is not None and now >= self._deadline:
            raise DeadlineExceededError(
                f"operation {self._op!r} did not end within {self._deadline - self._start:.0f} s; it may still end, and a rerun is safe"
            )
        silent_since, patience = (self._start, self._answer_timeout) if self._heard is None else (self._heard, SILENCE)
        if now - silent_since >= patience:
            raise UnavailableError(_SILENT.format(seconds=patience, op=self._op) if self._heard else _ABSENT.format(seconds=patience))
        return min(silent_since + patience, self._deadline if self._deadline is not None else float("inf"))

    def _send(self) -> None:
        try:
            self._link.bus.fire_master(envelope.REQUEST_TAG + self._request.id, dict(self._request.data))
        except BusLostError:
            self._reopen()

    def _receive(self, wait: float) -> envelope.Reply | None:
        try:
            event = self._link.bus.receive(envelope.REPLY_TAG + self._request.id, wait)
        except BusLostError:
            self._reopen()
            return None
        if event is None:
            return None
        try:
            return envelope.open_reply(event[1], self._link.keys.private(), self._link.keys.masters(), self._minion, self._request)
        except envelope.RefusedError as exc:
            # Any root process of this machine can fire on the local bus; the right reply may yet
            # come.
            if not self._warned:
                log.warning("storage: ignored a reply to request %s: %s", self._request.id, exc.reason)
                self._warned = True
            return None

    def _reopen(self) -> None:
        """Look for the daemon again, which is being restarted, say, until it is time to give up."""
        time.sleep(0.2)
        try:
            self._link.bus.open()
        except BusLostError:
            return
        # A reply that came meanwhile was missed; ask again.
        try:
            self._link.bus.fire_master(envelope.REQUEST_TAG + self._request.id, dict(self._request.data))
        except BusLostError:
            return


_ABSENT = (
    "no storage controller answered within {seconds:.0f} s. On the master: the engine must be configured (engines: [storage: {{}}]) "
    "beside the option 'storage', the modules synced (salt-run saltutil.sync_all), then the master restarted; the key of this minion must "
    "be accepted (salt-key -L) and its daemon connected, and the clocks of both must agree. Or the master is overloaded, "
    "or still starting: try again. The master's log may say more"
)
_SILENT = (
    "the storage controller worked on {op!r} and then was silent for {seconds:.0f} s; whether the operation has ended is not known, "
    "and a rerun is safe: it takes up what was done"
)
