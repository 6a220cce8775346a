"""How far an operation has come: a user who waits for a long operation sees that it lives.

Any code that an operation runs, providers included, says what it does right now with :func:`step`.
Nothing needs to be passed to it: the operation of this thread is known. A :class:`Heartbeat`
passes it on, and reports how long silent operations have been running. Long steps on a host are
reported in the same form, see :mod:`saltstorage.consumer.host.heartbeat`.
"""

from __future__ import annotations

import contextlib
import contextvars
import logging
import re
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from . import validate
from .errors import InvalidArgumentError, PermissionDeniedError

log = logging.getLogger(__name__)

#: An operation is reported when it has taken this long, seconds; nearly all end sooner.
TELL_AFTER = 3.0
#: How often it is reported from then on, seconds.
TELL_EVERY = 5.0
#: Longest text of a report, characters.
MAX_TEXT = 200
#: Longest time that a step on a host can have taken, seconds: a year.
MAX_SECONDS = 366 * 86400.0

RUNNING = "running"
DONE = "done"
FAILED = "failed"

_ID = re.compile(r"[0-9a-f]{32}")
_VOLUME_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_PROGRAM = re.compile(r"[a-z][a-z0-9._-]{0,31}")

#: Takes what :meth:`Progress.to_wire` returns.
Tell = Callable[[dict[str, Any]], None]

_current: contextvars.ContextVar[Progress | None] = contextvars.ContextVar("storage_progress", default=None)


class Progress:
    """One operation while it runs.

    :param op: its name, such as ``create``.
    :param caller: the minion that asked; None for the administrator on the master.
    :param args: its parameters; only ``name``, ``owner`` and ``volume_id`` are shown, when they
        are short and printable.

    >>> progress = Progress("migrate", None, {"name": "data", "owner": "db1"})
    >>> progress.step("copying", done=5, total=20)
    >>> progress.text
    "migrate 'data' of db1: copying, 25 %"
    """

    def __init__(self, op: str, caller: str | None, args: Mapping[str, Any] | None = None) -> None:
        self.id = uuid.uuid4().hex
        self.op = op
        self.caller = caller
        self.name = _shown((args or {}).get("name"))
        self.owner = _shown((args or {}).get("owner")) or caller or ""
        self.volume_id = _shown((args or {}).get("volume_id"))
        self.started = time.monotonic()
        self.state = RUNNING
        self.told = 0.0
        self._step: tuple[str, float | None, float | None] = ("", None, None)

    def step(self, text: str, *, done: float | None = None, total: float | None = None) -> None:
        """Say what is done right now; see :func:`step`."""
        # One assignment, since another thread reads it.
        self._step = (_shown(text, MAX_TEXT), done, total)

    @property
    def percent(self) -> int | None:
        """How much of the present step is done, 0 to 100; None when that is not known."""
        _, done, total = self._step
        return None if done is None or not total or total < 0 else int(max(0.0, min(100.0, 100.0 * done / total)))

    @property
    def text(self) -> str:
        """One line for people: the operation, its volume, and the present step."""
        what = f"{self.op} {self.name!r} of {self.owner}" if self.name else self.op
        said, percent = self._step[0], self.percent
        now = ", ".join(part for part in (said, f"{percent} %" if percent is not None else "") if part)
        return f"{what}: {now}" if now else what

    def to_wire(self) -> dict[str, Any]:
        """Return plain data without secrets.

        :returns: ``id``, ``op``, ``minion`` (None: the administrator), ``volume``, ``owner``,
            ``volume_id`` (empty: not known), ``state`` (running, done or failed), ``seconds``
            since the start, ``step``, ``percent`` (None: not known) and ``text``, one line with
            all of it.
        """
        seconds = round(time.monotonic() - self.started, 1)
        ending = {RUNNING: f" ({seconds:.0f} s)", DONE: f": done after {seconds:.0f} s", FAILED: f": failed after {seconds:.0f} s"}
        return {
            "id": self.id,
            "op": self.op,
            "minion": self.caller,
            "volume": self.name,
            "owner": self.owner,
            "volume_id": self.volume_id,
            "state": self.state,
            "seconds": seconds,
            "step": self._step[0],
            "percent": self.percent,
            "text": self.text + ending[self.state],
        }


def reported(minion: str, data: Mapping[str, Any]) -> Progress:
    """Return a minion's report of a long step of its own, once everything in it has the form that
    it must have.

    :param minion: the proven sender; it can report on its own and on shared volumes only.
    :param data: a report that came, meant to be from :meth:`Progress.to_wire` there. Its texts for
        people are made again here.
    :raises InvalidArgumentError: something has another form.
    :raises PermissionDeniedError: the volume is another minion's.
    """
    forms = {"id": _ID, "op": _PROGRAM, "volume_id": _VOLUME_ID}
    for key, form in forms.items():
        value = data.get(key)
        # Before its volume is known, a record has no id of it.
        if not (isinstance(value, str) and (form.fullmatch(value) or (key == "volume_id" and not value))):
            raise InvalidArgumentError(f"{key} is malformed", field=key)
    seconds, state = data.get("seconds"), data.get("state")
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds < MAX_SECONDS:
        raise InvalidArgumentError("seconds is malformed", field="seconds")
    if state not in (RUNNING, DONE, FAILED):
        raise InvalidArgumentError("state is malformed", field="state")
    if data.get("owner") not in (minion, validate.SHARED_OWNER):
        raise PermissionDeniedError("the volume is another minion's", field="owner")
    progress = Progress(
        data["op"], minion, {"name": validate.name(data.get("volume"), "volume"), "owner": data["owner"], "volume_id": data["volume_id"]}
    )
    progress.id = data["id"]
    progress.started -= seconds
    progress.state = state
    progress.step(data.get("step") or "")
    return progress


def step(text: str, *, done: float | None = None, total: float | None = None) -> None:
    """Say what the operation that runs in this thread does right now; without an operation,
    nothing happens.

    Cheap: call it as often as there is something new.

    :param text: a few words without secrets, such as ``copying``: the readers of the master's
        events and the minion see it.
    :param done: how much of it is done, in any unit.
    :param total: how much there is to do, in the same unit.

    >>> step("copying", done=3, total=20)
    """
    current = _current.get()
    if current is not None:
        current.step(text, done=done, total=total)


def current() -> Progress | None:
    """Return the operation that runs in this thread; None when there is none."""
    return _current.get()


@contextlib.contextmanager
def of_thread(progress: Progress) -> Iterator[None]:
    """Make a progress that of this thread's operation while the context lasts."""
    token = _current.set(progress)
    try:
        yield
    finally:
        _current.reset(token)


class Heartbeat:
    """Reports every operation that takes long, now and then, and its end.

    One thread makes all reports; it exists only while there is something to watch.

    :param tell: takes a report; its exceptions are logged and otherwise ignored.
    :param after: when an operation is reported for the first time, seconds.
    :param every: how often from then on, seconds.
    """

    def __init__(self, tell: Tell, *, after: float = TELL_AFTER, every: float = TELL_EVERY) -> None:
        self._tell = tell
        self._after = after
        self._every = every
        self._watched: dict[str, Progress] = {}
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    @contextlib.contextmanager
    def operation(self, op: str, caller: str | None, args: Mapping[str, Any] | None = None) -> Iterator[Progress]:
        """Watch an operation that runs in this thread while the context lasts, and yield its
        progress.

        :param op: see :class:`Progress`, also for the others.
        """
        with self.watch(Progress(op, caller, args)) as progress:
            yield progress

    @contextlib.contextmanager
    def watch(self, progress: Progress) -> Iterator[Progress]:
        """Do the same with a progress that was made before, whose operation may have been running
        for a while.
        """
        token = _current.set(progress)
        self._begin(progress)
        try:
            yield progress
        except BaseException:
            self._end(progress, FAILED)
            raise
        else:
            self._end(progress, DONE)
        finally:
            _current.reset(token)

    def close(self, timeout: float = 2.0) -> None:
        """Wait until the ends of all operations have been reported, at most ``timeout`` seconds."""
        with self._changed:
            thread = self._thread
            self._changed.notify_all()
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout)

    def _begin(self, progress: Progress) -> None:
        with self._changed:
            self._watched[progress.id] = progress
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="storage-progress", daemon=True)
                self._thread.start()

    def _end(self, progress: Progress, state: str) -> None:
        with self._changed:
            progress.state = state
            if not progress.told:
                del self._watched[progress.id]
            self._changed.notify_all()

    def _run(self) -> None:
        while True:
            with self._changed:
                if not self._watched:
                    self._thread = None
                    return
                due = self._due()
                if not due:
                    self._changed.wait(self._pause())
                    due = self._due()
            for progress in due:
                self._say(progress)

    def _due(self) -> list[Progress]:
        now = time.monotonic()
        due = []
        for progress in list(self._watched.values()):
            if progress.state != RUNNING and progress.told:
                del self._watched[progress.id]
                due.append(progress)
            elif progress.state == RUNNING and now >= self._next(progress):
                progress.told = now
                due.append(progress)
        return due

    def _next(self, progress: Progress) -> float:
        return progress.told + self._every if progress.told else progress.started + self._after

    def _pause(self) -> float:
        return max(0.01, min(map(self._next, self._watched.values())) - time.monotonic())

    def _say(self, progress: Progress) -> None:
        try:
            self._tell(progress.to_wire())
        except Exception as error:  # that nobody can be told is no reason for anything to fail
            log.debug("storage: the progress of %s could not be told: %s", progress.op, type(error).__name__)


def _shown(value: Any, most: int = 128) -> str:
    """Return a text as far as it may be shown: names may be hostile, and are not checked yet."""
    if not isinstance(value, str):
        return ""
    return "".join(char if char.isprintable() else "?" for char in value[:most])


def on_terminal(data: Mapping[str, Any]) -> None:
    """Show a report to the user at the terminal, where there is no master's bus; the printed
    result stays clean.
    """
    log.info("storage: %s", data["text"])
    # A daemon may have no standard error at all.
    if sys.stderr is not None and not sys.stderr.closed and sys.stderr.isatty():
        sys.stderr.write(f"{data['text']}\n")
        sys.stderr.flush()
