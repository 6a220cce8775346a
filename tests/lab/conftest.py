"""Fixtures of the lab; ``run.sh`` has made the namespaces."""

from __future__ import annotations

import os
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import pytest

from .guest import LOGS
from .lab import FOLDER, Lab
from .san import San
from .verified import PARTS, Verified


class Part(Protocol):
    """A running part of the lab, with logs."""

    def start(self) -> None:
        """Return when it can be used."""

    def stop(self) -> None:
        """End all of it."""

    def save_logs(self, folder: Path) -> None:
        """Keep its logs in a folder that is there."""


#: Running parts, to save their logs, and the folder for the logs of the current test.
_RUNNING = pytest.StashKey[list[Part]]()
_FOLDER = pytest.StashKey[Path]()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if "LAB_PART" not in os.environ:
        for item in items:
            item.add_marker(pytest.mark.skip(reason="runs by make lab, in namespaces of its own"))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    item.session.stash.setdefault(_RUNNING, [])
    item.session.stash[_FOLDER] = LOGS / item.path.stem / item.name


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    outcome: Any = yield
    report = outcome.get_result()
    if report.failed:
        for part in item.session.stash[_RUNNING]:
            _save_logs(item.session, part)
        if (folder := item.session.stash[_FOLDER]).exists():
            report.sections.append(("Logs", str(folder)))


def _save_logs(session: pytest.Session, part: Part) -> None:
    """Keep the logs of a part in the folder of the current test, in any state of the part."""
    folder = session.stash[_FOLDER]
    folder.mkdir(parents=True, exist_ok=True)
    try:
        part.save_logs(folder)
    except Exception:
        # Raised here, it would end the whole run.
        (folder / f"{type(part).__name__}-not-saved.log").write_text(traceback.format_exc())


@contextmanager
def running(session: pytest.Session, part: Part) -> Iterator[None]:
    """Start a part of the lab and stop it in the end; meanwhile its logs are kept when a test
    fails, and when it does not start.
    """
    session.stash[_RUNNING].append(part)
    try:
        try:
            part.start()
        except Exception:
            # When the report is made, it has been stopped.
            _save_logs(session, part)
            raise
        yield
    finally:
        session.stash[_RUNNING].remove(part)
        part.stop()


@pytest.fixture(scope="session")
def lab(request: pytest.FixtureRequest, verified: Verified) -> Iterator[Lab]:
    """Yield the running lab: a controller outside, and its consumers in guests."""
    yield from _yielded(request, verified, Lab())


@pytest.fixture(scope="session")
def san(request: pytest.FixtureRequest, verified: Verified) -> Iterator[San]:
    """Yield the running storage machine with the controller on it, and its consumers; all are
    guests.
    """
    yield from _yielded(request, verified, San(FOLDER / "san"))


def _yielded(request: pytest.FixtureRequest, verified: Verified, part: Any) -> Iterator[Any]:
    with running(request.session, part):
        verified.kernels.update(f"{guest.run('uname -r').strip()} (user-mode Linux)" for guest in part.consumers)
        yield part


@pytest.fixture(scope="session")
def verified(request: pytest.FixtureRequest) -> Iterator[Verified]:
    """Yield the table of this part of the run."""
    table = Verified()
    yield table
    table.save(PARTS / f"{os.environ.get('LAB_PART')}.json")
