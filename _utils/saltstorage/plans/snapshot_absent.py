"""``storage_snapshot.absent``: a snapshot does not exist."""

from __future__ import annotations

from typing import Any

from .. import validate
from ..flow import snapshots
from ..flow.flow import Flow
from .skeleton import Changes, Plan, change
from .snapshots import summary


def absent(flow: Flow, name: Any) -> Plan:
    """Plan that a snapshot does not exist."""
    name = validate.name(name)
    old = flow.inventory().snapshot(flow.minion, name)
    if old is None:
        return Plan(f"Snapshot {name!r} is already absent.")
    changes = {name: change(summary(old), None)}
    return Plan(f"Snapshot {name!r} would be deleted.", changes, lambda: _delete(flow, name, changes))


def _delete(flow: Flow, name: str, changes: Changes) -> tuple[Changes, str]:
    old, record_only = snapshots.delete(flow, name)
    if old is None:
        return {}, f"Snapshot {name!r} is already absent."
    text = f"Snapshot {name!r} was deleted."
    return changes, f"{text} The backend had it no more: only its record was removed." if record_only else text
