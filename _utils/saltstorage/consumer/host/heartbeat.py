"""The heartbeat of a long step on this host, as the controller's operations have one.

:mod:`saltstorage.progress` decides when and how often a report is made, and its content; ``op`` is
here the program that does the step, such as ``mkfs.xfs``.  A step needs no parameter for this:
its volume is known from the volume's lock, which the thread holds.
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

#: Returns the owner and id of a volume; None while they are not known.
OwnerAndId = Callable[[str], tuple[str, str] | None]


@dataclass(frozen=True)
class _Volume:
    name: str
    host: str
    tell: Tell
    owner_and_id: OwnerAndId


_volume: contextvars.ContextVar[_Volume | None] = contextvars.ContextVar("storage_volume", default=None)


class _Step(Progress):
    """A step; its volume's owner and id are looked up for each report."""

    def __init__(self, program: str, step: str, volume: _Volume, since: float) -> None:
        super().__init__(program, volume.host, {"name": volume.name})
        self.started = since
        self.step(step)
        self._volume = volume

    def to_wire(self) -> dict[str, object]:
        with contextlib.suppress(StorageError):  # the step itself deals with a damaged record
            self.owner, self.volume_id = self._volume.owner_and_id(self.name) or (self.owner, self.volume_id)
        return super().to_wire()


@contextlib.contextmanager
def of_volume(name: str, host: str, tell: Tell | None, owner_and_id: OwnerAndId) -> Iterator[None]:
    """Report long steps of this thread, within the context, as steps of a volume.

    :param name: name of the volume.
    :param host: the minion id.
    :param tell: takes the reports; with None there are no reports.
    :param owner_and_id: returns the owner and id of the volume.
    """
    token = _volume.set(None if tell is None else _Volume(name, host, tell, owner_and_id))
    try:
        yield
    finally:
        _volume.reset(token)


@contextlib.contextmanager
def watch(program: str, step: str, *, since: float | None = None) -> Iterator[None]:
    """Report the work in this context when it takes long, and its end.

    The reports cost a thread, so a caller that can wait in pieces enters this context only after
    the first seconds. Within another step, or an operation of the controller, which has its own
    reports, nothing happens.

    :param program: program that does the work: ``"mkfs.xfs"``.
    :param step: the work, without secrets, as in errors: ``"make the file system"``.
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
