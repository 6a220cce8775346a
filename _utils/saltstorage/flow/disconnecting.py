"""Disconnecting: a volume is detached from this host, and only then unmapped.

Unmapped under a device in use, its data would be lost.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from ..model import Connection
from .batch import Ask
from .flow import Flow

T = TypeVar("T")


@dataclass(frozen=True)
class Disconnected(Generic[T]):
    """The result of disconnecting.

    :ivar before: the result of the step that came first, such as to unmount.
    :ivar path: the former path of the device; ``mapping`` when there was none and a mapping went;
        empty when there was neither.
    :ivar warnings: sentences on the data that ``force`` lost.
    """

    before: T
    path: str
    warnings: tuple[str, ...]


def disconnect(flow: Flow, owner: str, name: str, *, force: bool = False, before: Callable[[], T]) -> Disconnected[T]:
    """Detach a volume that nobody uses from this host and have it unmapped.

    :param before: the first step, such as to unmount.
    :raises FailedPreconditionError: the volume is in use; all holders are named.
    """
    if is_disconnected(flow, owner, name):
        return flow.together.answer(Ask("disconnect", owner, name, {}))  # type: ignore[no-any-return]
    with flow.consumer.lock(name):
        ask = ask_disconnect(flow, owner, name, force=force, before=before)
        return ask.finish(flow.together.answer(ask))  # type: ignore[no-any-return]


def is_disconnected(flow: Flow, owner: str, name: str) -> bool:
    """Return whether an earlier state of this run has disconnected a volume with its own."""
    return flow.together.answered("disconnect", owner, name)


def ask_disconnect(flow: Flow, owner: str, name: str, *, force: bool, before: Callable[[], T]) -> Ask:
    """Detach a volume, and return the request to unmap it.

    Call it with the volume's lock held until ``finish``.
    """
    first = before()
    attached = flow.attachment(name)
    detached = flow.consumer.detach(name, owner, force=force)

    def finish(reply: dict[str, Any]) -> Disconnected[T]:
        flow.consumer.forget(name)
        if reply["connection"]:
            flow.drop(Connection.from_wire(reply["connection"]))
        if detached.changed and attached is not None:
            return Disconnected(first, attached.device or attached.path or "half attached", detached.warnings)
        return Disconnected(first, "mapping" if reply["connection"] else "", detached.warnings)

    return Ask("disconnect", owner, name, {"name": name, **flow.owner_args(owner)}, finish)
