"""Publishes sealed replies, each to the minion that asked."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from . import envelope
from .pool import FairPool, FullError
from .publisher import Publisher

log = logging.getLogger(__name__)

#: Fires an event on the bus of one minion: ``publish(minion, tag, data)``.
Publish = Callable[[str, str, dict[str, str]], bool]

#: How long a minion must wait for the same reply to be published again, seconds; its own repeats
#: are slower.
REPEAT_INTERVAL = 0.5
#: Threads that publish.
THREADS = 4
#: Requests whose last answer is remembered, to tell a repetition that comes too soon.
REMEMBERED = 10_000


class Replies:
    """The way of replies. It has threads of its own: "working" must get out while every worker is
    busy.

    :param opts: the master's options.
    :param pending: replies to one minion that may wait; it asks again for the reply that is
        dropped.
    :param publish: sends a reply; default through a job of ``event.fire``.
    """

    def __init__(self, opts: Mapping[str, Any], pending: int, publish: Publish | None = None) -> None:
        self._publisher = Publisher(opts) if publish is None else None
        self._publish: Publish = publish or self._publisher  # type: ignore[assignment]
        at_end = self._publisher.close_thread if self._publisher is not None else None
        self._pool = FairPool(THREADS, pending, name="storage-reply", at_end=at_end)
        self._lock = threading.Lock()
        self._answered: dict[str, float] = {}

    def may_answer(self, request: envelope.Request) -> bool:
        """Return whether a request may be answered now, and take note of the answer.

        Anybody can replay an event, and each answer is a job; so repeated events must not multiply
        jobs.
        """
        now = time.monotonic()
        with self._lock:
            if now - self._answered.get(request.id, 0.0) < REPEAT_INTERVAL:
                return False
            if len(self._answered) > REMEMBERED:
                self._answered = {key: at for key, at in self._answered.items() if now - at < REPEAT_INTERVAL}
            self._answered[request.id] = now
        return True

    def send(self, request: envelope.Request, seal: Callable[[], bytes]) -> None:
        """Have a reply sealed and published, in a thread of its own.

        :param seal: returns the sealed reply.
        """
        self.submit(request.minion, lambda: self.publish(request, seal()))

    def submit(self, minion: str, work: Callable[[], None]) -> None:
        """Have ``work`` done for a minion in turn with its replies, unless too many of these
        wait.
        """
        try:
            self._pool.submit(minion, work)
        except FullError:
            log.debug("storage: too many replies to minion %s are waiting; it will ask again", minion)

    def publish(self, request: envelope.Request, reply: bytes) -> None:
        """Publish a sealed reply at once."""
        self._publish(request.minion, envelope.REPLY_TAG + request.id, json.loads(reply))

    def close(self, timeout: float) -> None:
        """Publish the replies that wait, within ``timeout`` seconds, and free the sockets."""
        self._pool.close(timeout, drop=False)
        if self._publisher is not None:
            self._publisher.close()
