"""Worker threads that are shared fairly: no minion can take them all, and none can queue without
bound.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Callable

log = logging.getLogger(__name__)

#: Idle threads that a key with a thread leaves to others: two, so that one is left when another
#: key takes one.
_LEFT = 2


class FullError(Exception):
    """Too much is waiting for this key."""


class FairPool:
    """A bounded number of threads that take work from one queue per key in turn.

    Every key is entitled to one thread. It may use further idle threads as long as two stay idle,
    so two busy keys can never starve a third (of three threads or more). Where all threads are
    busy, the next free thread goes to a key that has none.

    :param workers: number of threads.
    :param pending: how many pieces of work may wait for one key.
    :param name: prefix of the threads' names.
    :param at_end: called at the end of each thread, to free what is the thread's own.
    """

    def __init__(
        self,
        workers: int,
        pending: int,
        *,
        name: str = "storage",
        at_end: Callable[[], None] | None = None,
    ) -> None:
        self._pending = pending
        self._at_end = at_end
        self._idle = workers
        self._queues: OrderedDict[str, deque[Callable[[], None]]] = OrderedDict()
        self._running: Counter[str] = Counter()
        self._changed = threading.Condition()
        self._closed = False
        # Daemon threads: a driver that hangs must not keep the engine from ending.
        self._threads = [threading.Thread(target=self._work, name=f"{name}-{n}", daemon=True) for n in range(workers)]
        for thread in self._threads:
            thread.start()

    def submit(self, key: str, work: Callable[[], None]) -> None:
        """Queue ``work`` for ``key``.

        :raises FullError: too much is waiting for this key, or the pool is closed.
        """
        with self._changed:
            queue = self._queues.setdefault(key, deque())
            if self._closed or len(queue) >= self._pending:
                raise FullError(key)
            queue.append(work)
            self._changed.notify()

    def close(self, timeout: float, *, drop: bool = True) -> bool:
        """Let running work finish within ``timeout`` seconds, and waiting work too unless
        ``drop``; return whether all ended.
        """
        deadline = time.monotonic() + timeout
        with self._changed:
            self._closed = True
            if drop:
                self._queues.clear()
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def _work(self) -> None:
        while (taken := self._take()) is not None:
            key, work = taken
            try:
                work()
            except Exception as exc:  # a worker must live on; the work reports its own errors
                log.error("storage: a worker failed: %s", type(exc).__name__)
            finally:
                with self._changed:
                    self._idle += 1
                    self._running[key] -= 1
                    if not self._running[key]:
                        del self._running[key]
                    if key in self._queues:
                        # Behind those that have waited meanwhile.
                        self._queues.move_to_end(key)
                    # All of them: at the end of the pool each has to see that nothing is left.
                    self._changed.notify_all()
        if self._at_end is not None:
            self._at_end()

    def _take(self) -> tuple[str, Callable[[], None]] | None:
        with self._changed:
            while not (self._closed and not self._queues):
                for key, queue in self._queues.items():
                    if not self._running[key] or self._idle > _LEFT:
                        work = queue.popleft()
                        # To the end of the line, or out of it when nothing waits.
                        self._queues.move_to_end(key)
                        if not queue:
                            del self._queues[key]
                        self._idle -= 1
                        self._running[key] += 1
                        return key, work
                self._changed.wait()
            return None
