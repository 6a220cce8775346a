"""Fixtures of the lab; ``run.sh`` has made the namespaces."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from .guest import CHECKOUT
from .lab import Lab
from .verified import Verified

LOGS = CHECKOUT / "build" / "lab" / "logs"
_LAB = pytest.StashKey[Lab]()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if os.environ.get("LAB_INSIDE") != "yes":
        for item in items:
            item.add_marker(pytest.mark.skip(reason="runs by make lab, in namespaces of its own"))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    outcome: Any = yield
    report = outcome.get_result()
    lab = item.session.stash.get(_LAB, None)
    if report.failed and lab is not None:
        folder = LOGS / item.name
        lab.save_logs(folder)
        report.sections.append(("Logs", str(folder)))


@pytest.fixture(scope="session")
def lab(request: pytest.FixtureRequest, verified: Verified) -> Iterator[Lab]:
    """Yield the running lab."""
    shutil.rmtree(LOGS, ignore_errors=True)
    found = Lab()
    request.session.stash[_LAB] = found
    try:
        found.start()
        verified.kernels.update(f"{guest.run('uname -r').strip()} (user-mode Linux)" for guest in found.consumers)
        yield found
    finally:
        found.stop()


@pytest.fixture(scope="session")
def verified(request: pytest.FixtureRequest) -> Iterator[Verified]:
    """Yield the table of this run; a run of all scenarios replaces the one in the documentation."""
    table = Verified()
    yield table
    table.write(CHECKOUT / "build" / "lab" / "verified.rst")
    if os.environ.get("LAB_ALL") == "yes":
        table.write(CHECKOUT / "docs" / "verified.rst")
