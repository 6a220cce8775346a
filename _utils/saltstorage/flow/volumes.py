"""Creating, growing and deleting volumes: the operations that need the controller alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..model import Volume
from ..spec import VolumeSpec
from .batch import Ask
from .flow import Flow


def create(flow: Flow, owner: str, name: str, wanted: VolumeSpec) -> tuple[Volume | None, Volume]:
    """Make sure that a volume exists and is as asked.

    Return it as it was (None: it did not exist) and as it is.
    """
    reply = flow.together.answer(ask_create(flow, owner, name, wanted))
    old = Volume.from_wire(reply["old"]) if reply["old"] else None
    volume = Volume.from_wire(reply["volume"])
    flow.put(volume)
    return old, volume


def extend(flow: Flow, owner: str, name: str, size: int) -> tuple[Volume, Volume]:
    """Make sure that a volume has at least ``size`` GiB; return it as it was and as it is."""
    reply = flow.ask("extend", {"name": name, "size": size, **flow.owner_args(owner)})
    volume = Volume.from_wire(reply["volume"])
    flow.put(volume)
    return Volume.from_wire(reply["old"]), volume


def delete(flow: Flow, owner: str, name: str, retain: bool | None = None) -> Mapping[str, Any]:
    """Delete a volume, or only let go of it.

    Return the controller's answer, see :meth:`.Volumes.delete`.
    """
    reply: Mapping[str, Any] = flow.together.answer(ask_delete(flow, owner, name, retain))
    if reply["old"]:
        flow.drop(Volume.from_wire(reply["old"]))
    return reply


def ask_create(flow: Flow, owner: str, name: str, wanted: VolumeSpec) -> Ask:
    """Return the request to create or grow a volume."""
    return Ask("create", owner, name, {"name": name, **wanted.to_wire(), **flow.owner_args(owner)})


def ask_delete(flow: Flow, owner: str, name: str, retain: bool | None = None) -> Ask:
    """Return the request to delete a volume, or only to let go of it."""
    given = {} if retain is None else {"retain": retain}
    return Ask("delete", owner, name, {"name": name, **given, **flow.owner_args(owner)})
