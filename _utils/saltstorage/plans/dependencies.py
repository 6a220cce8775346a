"""Volumes that depend on one another, when several states of a run change them.

A copy needs the content that the run gives its source; a mount point inside another one needs the
outer mount; and a source may go only after its copies were made. Salt's order of states alone does
not hold this: requests travel ahead of their turn, and a failed state stops no other one.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

from ..errors import FailedPreconditionError
from ..flow.flow import Flow
from ..model import Volume
from .run import DONE, FAILED, FORETOLD, OPEN, Run

#: The states that make a volume what it shall be.
_MAKERS = ("present", "connected", "mounted")


def is_settled(flow: Flow, run: Run, source: Mapping[str, str] | None) -> bool:
    """Return whether nothing keeps a source from being copied, in this run or cut off on this host.

    :param source: ``kind`` and ``name``; None for a volume that is no copy.
    """
    if source is None:
        return True
    return all(run.outcome(state) == DONE for state in _makers(run, source)) and not _is_half_formatted(flow, source)


def check_source(flow: Flow, run: Run, source: Mapping[str, str] | None) -> bool:
    """Refuse to make a copy before its source is as this run makes it.

    :param source: ``kind`` and ``name``; None for a volume that is no copy.
    :returns: whether the source is only foretold, since this is a dry run.
    :raises FailedPreconditionError: a state of the source failed, or comes later; or its file
        system is half made.
    """
    if source is None:
        return False
    what = f"the source {source['kind']} {source['name']!r}"
    if _is_half_formatted(flow, source):
        raise FailedPreconditionError(
            f"making the file system of {what} was cut off on this host, so it is not copied; apply storage_volume.mounted to it first",
            field="source",
        )
    foretold = False
    for state in _makers(run, source):
        outcome = run.outcome(state)
        if outcome == FAILED:
            text = f"{what} failed in this run (state {state['__id__']!r}), so it is not copied; mend that first"
            raise FailedPreconditionError(text, field="source")
        if outcome == OPEN and (run.ahead or _is_unmade(flow, source, state["fun"])):
            raise FailedPreconditionError(
                f"{what} is made later in this run (state {state['__id__']!r}); put that state before this one, or require it here",
                field="source",
            )
        foretold = foretold or outcome == FORETOLD
    return foretold


def check_copies(flow: Flow, run: Run, volume: Volume) -> None:
    """Refuse to delete a volume before the copies of it that this run makes are made.

    :raises FailedPreconditionError: the state of a copy failed, or comes later.
    """
    for state in run.others("storage_volume", *_MAKERS):
        if _source_of(state) != {"volume": volume.name} or state.get("owner") not in (None, volume.owner):
            continue
        outcome = run.outcome(state)
        if outcome == FAILED:
            text = f"volume {volume.name!r} is not deleted, since its copy {state['name']!r} failed in this run (state {state['__id__']!r})"
            raise FailedPreconditionError(text)
        copy = flow.inventory().volume(volume.owner, state["name"])
        if outcome == OPEN and (copy is None or (copy.source or {}).get("id") != volume.id):
            raise FailedPreconditionError(
                f"volume {volume.name!r} is not deleted, since its copy {state['name']!r} is made later in this run (state"
                f" {state['__id__']!r}); put that state before this one"
            )


def check_outer_mounts(run: Run, path: str) -> None:
    """Refuse to mount inside a mount point that this run has not mounted yet.

    The outer mount would hide the inner one.

    :raises FailedPreconditionError: the state of the outer mount point failed, or comes later.
    """
    if run.ahead:
        # Only the request travels ahead. The mount waits for its turn.
        return
    for state in run.others("storage_volume", "mounted"):
        outer = state.get("mount")
        if not isinstance(outer, str) or not path.startswith(os.path.normpath(outer).rstrip("/") + "/"):
            continue
        outcome = run.outcome(state)
        if outcome == FAILED:
            text = f"{path} is inside {outer}, whose volume {state['name']!r} failed in this run (state {state['__id__']!r})"
            raise FailedPreconditionError(text, field="mount")
        if outcome == OPEN and not os.path.ismount(outer):
            raise FailedPreconditionError(
                f"{path} is inside {outer}, which is mounted later in this run (state {state['__id__']!r}); put that state before this one",
                field="mount",
            )


def _makers(run: Run, source: Mapping[str, str]) -> Iterator[Mapping[str, Any]]:
    """Yield the states of the run that make a source.

    A shared volume of the name is another volume.
    """
    snapshot = source["kind"] == "snapshot"
    for state in run.others("storage_snapshot", "present") if snapshot else run.others("storage_volume", *_MAKERS):
        if state["name"] == source["name"] and state.get("owner") != "shared":
            yield state


def _source_of(state: Mapping[str, Any]) -> dict[str, Any] | None:
    source = state.get("source")
    return dict(source) if isinstance(source, Mapping) else None


def _is_unmade(flow: Flow, source: Mapping[str, str], function: str) -> bool:
    """Return whether a source whose state comes later has still nothing that could be copied."""
    if source["kind"] == "snapshot":
        return flow.inventory().snapshot(flow.minion, source["name"]) is None
    found = flow.inventory().volume(flow.minion, source["name"])
    return found is None or (function == "mounted" and not found.formatted)


def _is_half_formatted(flow: Flow, source: Mapping[str, str]) -> bool:
    attached = flow.attachment(source["name"]) if source["kind"] == "volume" else None
    return attached is not None and attached.owner == flow.minion and attached.formatting
