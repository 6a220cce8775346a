"""A step on this host that takes long shows that it lives, as the controller's operations do.

What is told, when and how often is that of :mod:`saltstorage.progress`; ``op`` is here the program that does it, such as
``mkfs.xfs``.  Nothing needs to be passed to a step: whose it is, is known from the lock of the volume, which this thread holds.
"""

from __future__ import annotations

import contextlib
import contextvars
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ... import progress
from ...errors import StorageError
from ...progress import Heartbeat, Progress, Tell
from .records import AttachmentRecord


@dataclass(frozen=True)
class _Volume:
    name: str
    host: str
    tell: Tell
    record: Callable[[str], AttachmentRecord | None]


_volume: contextvars.ContextVar[_Volume | None] = contextvars.ContextVar("storage_volume", default=None)


class _Step(Progress):
    """A step; the volume's owner and id are looked up when there is something to tell."""

    def __init__(self, program: str, step: str, volume: _Volume, since: float) -> None:
        super().__init__(program, volume.host, {"name": volume.name})
        self.started = since
        self.step(step)
        self._volume = volume

    def to_wire(self) -> dict[str, object]:
        with contextlib.suppress(StorageError):  # a record that is damaged is the step's own affair
            record = self._volume.record(self.name)
            if record is not None:
                self.owner, self.volume_id = record.owner, record.volume_id
        return super().to_wire()


@contextlib.contextmanager
def of(name: str, host: str, tell: Tell | None, record: Callable[[str], AttachmentRecord | None]) -> Iterator[None]:
    """Have long steps of this thread, while the context lasts, told of as those of a volume.

    :param name: name of the volume.
    :param host: the minion id.
    :param tell: takes what there is to tell; None: nobody is told.
    :param record: returns the record of the volume's attachment.
    """
    token = _volume.set(None if tell is None else _Volume(name, host, tell, record))
    try:
        yield
    finally:
        _volume.reset(token)


@contextlib.contextmanager
def shown(program: str, step: str, *, since: float | None = None) -> Iterator[None]:
    """Tell of what is done in this context when it takes long, and of its end.

    It costs a thread while it lasts, so who can wait in pieces does so for the first seconds. Within another step or an operation of
    the controller, which are told of themselves, nothing happens.

    :param program: what does it: ``"mkfs.xfs"``.
    :param step: what is being done, without secrets, as in errors: ``"make the file system"``.
    :param since: when it began, by the monotonic clock; default now.
    """
    volume = _volume.get()
    if volume is None or progress.current() is not None:
        yield
        return
    heartbeat = Heartbeat(volume.tell, after=progress.TELL_AFTER, every=progress.TELL_EVERY)
    watched = _Step(program, step, volume, time.monotonic() if since is None else since)
    try:
        with heartbeat.watch(watched):
            yield
    finally:
        if watched.told:
            heartbeat.close()
