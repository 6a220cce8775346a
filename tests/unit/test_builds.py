"""The digest of the code that a process has loaded."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from saltstorage import builds


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "within").mkdir()
    (tmp_path / "one.py").write_text("1")
    (tmp_path / "within" / "two.py").write_text("2")
    return tmp_path


def wait_for_the_files_clock(folder: Path) -> None:
    """Return when a file that is written now has a later time than now: a file system's clock is
    coarse.
    """
    now = time.time_ns()
    probe = folder / "probe"
    while True:
        probe.write_text("")
        if probe.stat().st_ctime_ns > now:
            return


def test_code_that_is_still_there_has_its_digest(folder: Path) -> None:
    wait_for_the_files_clock(folder)
    assert builds.digest_as_of(folder, time.time_ns()) == builds.digest(folder)


def test_code_that_has_changed_since_fits_nothing(folder: Path) -> None:
    before, loaded = builds.digest(folder), time.time_ns()
    wait_for_the_files_clock(folder)
    (folder / "within" / "two.py").write_text("3")
    found = builds.digest_as_of(folder, loaded)
    assert found not in (before, builds.digest(folder))
    assert found == builds.digest_as_of(folder, loaded)
    assert len(found) == 12


def test_a_file_of_the_future_is_no_change(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    past = time.time_ns() - 3600 * 10**9
    monkeypatch.setattr(time, "time_ns", lambda: past)
    assert builds.digest_as_of(folder, past - 10**9) == builds.digest(folder)


def test_a_process_keeps_its_answer() -> None:
    assert builds.own() == builds.own()


def test_no_source_is_read_before_somebody_asks() -> None:
    """The runner's and the states' modules are imported in every command and job."""
    code = """
import pathlib
def refuse(*_):
    raise AssertionError("sources are looked for")
pathlib.Path.rglob = refuse
import saltstorage.builds, saltstorage.runner.calls, saltstorage.runner.versions, saltstorage.link.remote
try:
    saltstorage.builds.own()
except AssertionError:
    print("only then")
"""
    environ = {**os.environ, "PYTHONPATH": str(Path(builds.__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=True)
    assert done.stdout == "only then\n"
