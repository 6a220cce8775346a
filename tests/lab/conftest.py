"""Fixtures of the lab; ``run.sh`` has made the namespaces."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest

from .guest import LOGS
from .lab import FOLDER, Lab
from .san import San
from .verified import PARTS, Verified

#: What runs, to save its logs.
_RUNNING = pytest.StashKey[list[Lab | San]]()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if "LAB_PART" not in os.environ:
        for item in items:
            item.add_marker(pytest.mark.skip(reason="runs by make lab, in namespaces of its own"))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    outcome: Any = yield
    report = outcome.get_result()
    running = item.session.stash.get(_RUNNING, [])
    if report.failed and running:
        folder = LOGS / item.name
        for part in running:
            part.save_logs(folder)
        report.sections.append(("Logs", str(folder)))


def pytest_sessionstart(session: pytest.Session) -> None:
    session.stash[_RUNNING] = []


@pytest.fixture(scope="session")
def lab(request: pytest.FixtureRequest, verified: Verified) -> Iterator[Lab]:
    """Yield the running lab: a controller outside, and its consumers in guests."""
    yield from _running(request, verified, Lab())


@pytest.fixture(scope="session")
def san(request: pytest.FixtureRequest, verified: Verified) -> Iterator[San]:
    """Yield the running storage machine with the controller on it, and its consumer; both are guests."""
    yield from _running(request, verified, San(FOLDER / "san"))


def _running(request: pytest.FixtureRequest, verified: Verified, part: Any) -> Iterator[Any]:
    request.session.stash[_RUNNING].append(part)
    try:
        try:
            part.start()
        except Exception:
            part.save_logs(LOGS / "start")
            print(f"The logs of the lab, which did not start: {LOGS / 'start'}")
            raise
        verified.kernels.update(f"{guest.run('uname -r').strip()} (user-mode Linux)" for guest in part.consumers)
        yield part
    finally:
        request.session.stash[_RUNNING].remove(part)
        part.stop()


@pytest.fixture(scope="session")
def verified(request: pytest.FixtureRequest) -> Iterator[Verified]:
    """Yield the table of this part of the run."""
    table = Verified()
    yield table
    table.save(PARTS / f"{os.environ.get('LAB_PART')}.json")
