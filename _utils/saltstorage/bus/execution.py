"""Carries out each request once, and remembers the reply."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from ..errors import (
    AbortedError,
    AlreadyExistsError,
    FailedPreconditionError,
    InternalError,
    LostError,
    ResourceExhaustedError,
    StorageError,
    UnavailableError,
    UnimplementedError,
)
from ..faults import as_storage_error
from ..progress import Heartbeat, Progress, Tell
from . import envelope
from .journal import Journal
from .sealing import Sealer
from .unrecorded import Unrecorded

log = logging.getLogger(__name__)

#: Carries out an operation: ``execute(op, args, caller)``; ``caller`` is the proven id of the
#: minion.
Execute = Callable[[str, dict[str, Any], str], dict[str, Any]]

#: How long a reply is kept for repeats, seconds. A reply to an operation that only read is kept for
#: as long as a repeat would be accepted at all.
KEEP_REPLIES = 24 * 3600.0


class Execution:
    """The one place where requests become operations.

    :param execute: carries out one operation.
    :param journal: memory of requests.
    :param sealer: seals the replies.
    :param max_age: largest difference between the time in a request and now, seconds.
    :param tell: takes how far a long operation has come.
    """

    def __init__(self, execute: Execute, journal: Journal, sealer: Sealer, max_age: float, tell: Tell) -> None:
        self._execute = execute
        self._journal = journal
        self._sealer = sealer
        self._max_age = max_age
        self._heartbeat = Heartbeat(tell)
        self._progress: dict[str, Progress] = {}
        self.unrecorded = Unrecorded(journal.finish)

    def text(self, request: envelope.Request) -> str:
        """Return how far a request has come, in words."""
        progress = self._progress.get(request.id)
        return progress.text if progress is not None else "waiting for its turn"

    def reply(self, request: envelope.Request) -> tuple[bytes, bool]:
        """Return the sealed reply to a request, and whether the request is a repeated one.

        A new request is carried out first.

        :raises LostError: the controller ended while it carried it out. There is no reply: the
            minion repeats the request, and the controller takes it up again when it is back.
        """
        if (unrecorded := self.unrecorded.find(request.id)) is not None:
            digest, reply = unrecorded
            return (reply if digest == request.digest else self._sealer.failed(request, other_contents())), True
        try:
            error = self._refusal(request)
            if error is not None:
                return self._sealer.failed(request, error), True
            entry = self._journal.begin(request.id, request.minion, request.digest, request.op, request.time)
        except Exception as exc:  # databases raise many types
            fault = as_storage_error(exc, "the journal of requests")
            error = fault if fault.retryable else UnavailableError(f"the controller's catalog does not answer: {fault.message}")
            return self._sealer.failed(request, error), True
        if entry.digest != request.digest:
            return self._sealer.failed(request, other_contents()), True
        if entry.state == "done" and entry.reply is not None:
            return entry.reply, True
        if entry.state == "running":
            return self._sealer.working(request, ""), True
        if entry.state != "new":
            return self._sealer.failed(request, self._ending(entry.state)), True
        log.debug("storage: request %s of %s: %s", request.id, request.minion, request.op)
        reply = self._carry_out(request)
        self.unrecorded.record(request, reply)
        return reply, False

    def prune(self) -> None:
        """Forget requests that are too old to matter."""
        now = time.time()
        self._journal.prune(now - KEEP_REPLIES, now - 2 * self._max_age)

    def close(self, timeout: float) -> None:
        """Wait until the ends of all operations have been told, at most ``timeout`` seconds."""
        self._heartbeat.close(timeout)

    def _refusal(self, request: envelope.Request) -> StorageError | None:
        """Return why a request is not even recorded, or None."""
        if request.version != envelope.VERSION:
            return UnimplementedError(
                f"the controller speaks version {envelope.VERSION} of the protocol, not {request.version}; "
                "run saltutil.sync_all on the minion and salt-run saltutil.sync_all on the master"
            )
        # A known request may be old: its minion has been waiting, perhaps for the engine to come
        # back.
        skew = request.time - time.time()
        if abs(skew) > self._max_age and self._journal.known(request.id) is None:
            when = f"{abs(skew):.0f} s {'after' if skew > 0 else 'before'} it came"
            return FailedPreconditionError(
                f"the request was signed {when}, by the clocks of minion and master; "
                f"at most {self._max_age:.0f} s are allowed: set both clocks right"
            )
        if self.unrecorded.full and ((known := self._journal.known(request.id)) is None or known.state != "done"):
            return UnavailableError("the controller's catalog takes no answers at present, so nothing is carried out; its log says why")
        return None

    def _ending(self, state: str) -> StorageError:
        """Return why a request that the journal knows, or has no room for, is neither carried out
        nor answered.
        """
        if state == "full":
            return ResourceExhaustedError(f"too many requests of this minion in the last {self._max_age:.0f} s; try again later")
        if state == "done":
            return AbortedError("the answer to this request is not kept any more, since this minion asked for so much since; ask anew")
        return AbortedError("the engine that began this request ended, and the request is too old to be taken up again; ask anew")

    def _carry_out(self, request: envelope.Request) -> bytes:
        """Return the sealed reply to a request, also after a fault: without a reply, the minion
        would wait for ever.
        """
        try:
            try:
                with self._heartbeat.operation(request.op, request.minion, request.args) as progress:
                    self._progress[request.id] = progress
                    data = self._execute(request.op, request.args, request.minion)
            except LostError:
                raise
            except BaseException as exc:  # every fault becomes a typed error for the minion; some libraries even exit
                return self._sealer.failed(request, as_storage_error(exc, f"operation {request.op}"))
            try:
                return self._sealer.done(request, data)
            except ValueError as exc:
                return self._sealer.failed(request, as_storage_error(exc, f"the result of {request.op}"))
        except LostError:
            raise
        except Exception as exc:  # an error that is no plain data at all
            as_storage_error(exc, "sealing a reply")
            return self._sealer.failed(request, InternalError("the reply of the controller could not be sent; its log has more"))
        finally:
            self._progress.pop(request.id, None)


def other_contents() -> StorageError:
    """Return the error for a request whose id is another request's."""
    return AlreadyExistsError("a request with this id but other contents is known to the controller; the sender must choose a new id")
