"""Logs refused requests, without letting the sender fill the log."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

log = logging.getLogger(__name__)


class Refusals:
    """Logs each kind of refusal once in a while, and how many more there were.

    :param window: seconds in which one kind is logged once; default 300.
    :param kinds: how many kinds are logged in one window; default 20. A stranger chooses
        the minion id, which is part of the kind, so the number must have a bound.
    """

    def __init__(self, window: float = 300.0, kinds: int = 20, clock: Callable[[], float] = time.monotonic) -> None:
        self._window = window
        self._kinds = kinds
        self._clock = clock
        self._lock = threading.Lock()
        self._since = clock()
        self._seen: set[tuple[str, str | None]] = set()
        self._silent = 0

    def note(self, reason: str, minion: str | None) -> None:
        """Take note of a refusal; ``minion`` is what the sender claims to be, or None."""
        with self._lock:
            now = self._clock()
            if now - self._since >= self._window:
                if self._silent:
                    log.warning("storage: %d more requests were refused in the last %d s", self._silent, now - self._since)
                self._since, self._silent = now, 0
                self._seen.clear()
            kind = (reason, minion)
            if kind in self._seen or len(self._seen) >= self._kinds:
                self._silent += 1
                return
            self._seen.add(kind)
        who = f"claiming to be of minion {minion[:80]!r}" if minion else "of an unknown sender"
        log.warning("storage: refused a request %s: %s; more of these are only counted for %d s", who, reason, self._window)
