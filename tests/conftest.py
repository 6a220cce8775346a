"""Tools for every test: paths of the checkout, short temporary folders, and the root marker."""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import salt._logging

from tests import needs

# Salt keeps early log records for a console, and would print them after pytest has closed its own.
salt._logging.shutdown_temp_handler()

CHECKOUT = Path(__file__).resolve().parent.parent

# How long an example takes says nothing here: another worker, or the machine, may be busy.
hypothesis.settings.register_profile("no deadline", deadline=None)
hypothesis.settings.load_profile("no deadline")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--quick", action="store_true", help="leave out tests that need root or daemons, or take long; as make check does")


def pytest_configure(config: pytest.Config) -> None:
    needs.quick = bool(config.getoption("--quick"))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Run a test that is marked ``alone`` while no other worker runs one: the kernel and its
    devices are the same for all.
    """
    with _turn(alone=item.get_closest_marker("alone") is not None):
        return (yield)


@contextmanager
def _turn(*, alone: bool) -> Iterator[None]:
    if "PYTEST_XDIST_WORKER" not in os.environ:
        yield
        return
    # Any two files that all workers have. A worker that waits at the first lets nobody pass, so a
    # test that must be alone gets its turn.
    with open(__file__, encoding="utf-8") as gate, open(CHECKOUT / "pyproject.toml", encoding="utf-8") as running:
        fcntl.flock(gate, fcntl.LOCK_EX)
        fcntl.flock(running, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        fcntl.flock(gate, fcntl.LOCK_UN)
        try:
            yield
        finally:
            # Said, since a child of the test may have the file still open.
            fcntl.flock(running, fcntl.LOCK_UN)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put the files that have slow tests first: a worker that gets one last keeps all others
    waiting. ``--quick`` leaves these tests out.
    """
    if needs.quick:
        left_out = [item for item in items if _takes_more(item)]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in set(left_out)]
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


def _takes_more(item: pytest.Item) -> bool:
    """Return whether a test needs root, time, or a database server."""
    if item.get_closest_marker("root") or item.get_closest_marker("slow"):
        return True
    parameters = getattr(getattr(item, "callspec", None), "params", {})
    return not {"postgresql", "mysql"}.isdisjoint(value for value in parameters.values() if isinstance(value, str))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport() -> Iterator[Any]:
    """Fail a test that skips for a reason that ``needs.py`` does not have."""
    return _checked((yield))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_make_collect_report() -> Iterator[Any]:
    """Fail a file that skips for such a reason."""
    return _checked((yield))


def _checked(report: Any) -> Any:
    if report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2].removeprefix("Skipped: ")
        if objection := needs.objection(report.nodeid, reason):
            report.outcome, report.longrepr = "failed", objection
    return report


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("root") and os.geteuid() != 0:
        pytest.skip(needs.ROOT)


@pytest.fixture(scope="session")
def checkout() -> Path:
    """Return the folder of the checkout, which is also the formula's file root."""
    return CHECKOUT


@pytest.fixture(scope="session")
def salt_factories_config() -> dict[str, Any]:
    """Let Salt's programs find its modules as their Python does: a path of the checkout is closed
    to other users.
    """
    return {"code_dir": None, "coverage_rc_path": None, "coverage_db_path": None, "inject_sitecustomize": False}


@pytest.fixture
def short_dir() -> Iterator[Path]:
    """Yield a temporary folder with a short path, for Unix sockets (their paths end at 107
    bytes); removed after the test.
    """
    folder = Path(tempfile.mkdtemp(prefix="st-"))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def free_port() -> int:
    """Return a TCP port of the loopback interface that was free a moment ago."""
    return free_tcp_port()


def free_tcp_port() -> int:
    """Return the same without a fixture."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@pytest.fixture(scope="session")
def metadata_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of cinderlib's metadata, one for the whole run: a process sets cinderlib
    up once.
    """
    folder = tmp_path_factory.getbasetemp() / "cinderlib"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder
