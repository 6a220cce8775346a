"""The common part of the plans for snapshots: parameters, the volume, the entry in ``changes``."""

from __future__ import annotations

from typing import Any

from .. import validate
from ..errors import InvalidArgumentError, NotFoundError
from ..flow.flow import Flow, check_usable
from ..model import Snapshot, Volume

MAX_TIMEOUT = 86_400.0


def check_taking(freeze: Any, timeout: Any) -> tuple[bool, float]:
    """Return whether to freeze the file system, and the seconds to wait, when both are right."""
    seconds = validate.seconds(timeout, "timeout")
    if seconds > MAX_TIMEOUT:
        raise InvalidArgumentError(f"timeout must be at most {MAX_TIMEOUT:g} s", field="timeout")
    return validate.boolean(freeze, "freeze"), seconds


def check_volume(flow: Flow, volume: Any) -> Volume:
    """Return the volume to take a snapshot of.

    :raises NotFoundError: this minion has no volume of the name.
    """
    if volume is None:
        raise InvalidArgumentError("volume is missing; name the volume to take the snapshot of", field="volume")
    found = flow.inventory().volume(flow.minion, validate.name(volume, "volume"))
    if found is None:
        raise NotFoundError(f"volume {volume!r} of {flow.minion} does not exist; create it with storage_volume.present", field="volume")
    check_usable(found)
    return found


def summary(snapshot: Snapshot) -> dict[str, Any]:
    """Return what ``changes`` show of a snapshot."""
    frozen = {"frozen": True} if snapshot.frozen else {}
    return {"id": snapshot.id, "volume": snapshot.volume, "size": snapshot.size, **frozen}
