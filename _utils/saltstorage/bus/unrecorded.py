"""Replies that the journal could not take."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from ..faults import as_storage_error
from .envelope import Request

log = logging.getLogger(__name__)

#: How many are kept. Once they are that many, the controller carries nothing out, so that it has
#: the answer to each operation that it did.
MOST = 64
#: How long to wait before the journal is asked again, seconds.
RETRY_INTERVAL = 5.0


class Unrecorded:
    """Keeps replies until the journal has them: the work is done and must not be done again, and
    its minion waits for the answer.

    That a reply was published proves nothing: nobody knows whether it came.

    :param finish: records a reply: ``finish(request_id, reply)``.
    """

    def __init__(self, finish: Callable[[str, bytes], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._finish = finish
        self._clock = clock
        self._lock = threading.Lock()
        self._replies: dict[str, tuple[str, bytes]] = {}
        self._retry_at = 0.0

    @property
    def full(self) -> bool:
        """Whether there is no room for more; operations that run already may still add theirs."""
        return len(self._replies) >= MOST

    def record(self, request: Request, reply: bytes) -> None:
        """Have a reply recorded, or keep it."""
        try:
            self._finish(request.id, reply)
        except Exception as exc:  # databases raise many types
            as_storage_error(exc, "recording a reply")
            with self._lock:
                self._replies[request.id] = (request.digest, reply)
                self._retry_at = self._clock() + RETRY_INTERVAL

    def find(self, request_id: str) -> tuple[str, bytes] | None:
        """Return the digest of a request whose reply is kept, and the reply, or None."""
        with self._lock:
            return self._replies.get(request_id)

    def due(self) -> bool:
        """Return whether it is time for :meth:`retry`; True is returned once for each time."""
        with self._lock:
            due = bool(self._replies) and self._clock() >= self._retry_at
            if due:
                # Until it has ended: a locked database takes its time.
                self._retry_at = float("inf")
        return due

    def retry(self) -> None:
        """Record what is kept, up to the first that fails again."""
        try:
            for request_id, (_, reply) in list(self._replies.items()):
                self._finish(request_id, reply)
                with self._lock:
                    del self._replies[request_id]
        except Exception as exc:  # as above; its first failure is in the log with all that is known
            log.debug("storage: %d replies are not recorded yet: %s", len(self._replies), type(exc).__name__)
        finally:
            with self._lock:
                self._retry_at = self._clock() + RETRY_INTERVAL
