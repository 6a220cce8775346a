"""A file system that is held still for a snapshot is let go whoever dies meanwhile: nobody's writes wait for ever."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess

import psutil
import pytest

from tests.integration.cluster import engines, in_background, state

pytestmark = [pytest.mark.root, pytest.mark.slow, pytest.mark.usefixtures("clean")]
SECONDS = 20


@pytest.fixture
def frozen(cluster, busy, heard, tmp_path):
    """A function that lets alpha freeze its volume for a snapshot that is not taken while the context lasts, and yields the mount."""

    @contextlib.contextmanager
    def make():
        mount = tmp_path / "srv"
        made = cluster.apply("alpha", state("mounted", "db", size=1, mount=str(mount), fstype="xfs"))
        assert made["db"]["result"] is True, made
        with busy("db"):
            thread, results = in_background(
                cluster.job, "alpha", "state.single", "storage_snapshot.present", name="cut", volume="db", freeze=True, timeout=SECONDS
            )
            # The controller is asked only when it is frozen. What came before may have been slow, and told so too.
            while heard("storage/progress/", 60)["data"]["op"] != "snapshot_create":
                pass
            assert freezers(mount)
            try:
                yield mount, results
            finally:
                thread.join()

    return make


def freezers(mount):
    """Return the processes that hold the file system."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if str(mount) in process.cmdline() and any("freezer" in part for part in process.cmdline()):
                found.append(process)
    return found


def writes(mount):
    """Write to the file system, which waits while it is frozen."""
    subprocess.run(["sh", "-c", 'echo kept > "$0" && sync -f "$0"', str(mount / "file")], check=True, timeout=60 + SECONDS)
    return (mount / "file").read_text() == "kept\n"


def test_n5_the_engine_is_killed(cluster, frozen):
    with frozen() as (mount, results):
        for pid in engines(cluster):
            os.kill(pid, signal.SIGKILL)
        assert writes(mount)
        assert freezers(mount) == []
    (failed,) = results[0].values()
    assert (failed["result"], failed["changes"]) == (False, {}), failed
    assert not any(snapshot["frozen"] for snapshot in cluster.run("storage.snapshots"))


def test_n5_the_minions_job_is_killed(cluster, frozen):
    with frozen() as (mount, _):
        (freezer,) = freezers(mount)
        freezer.parent().kill()
        assert writes(mount)
        assert freezers(mount) == []
    assert not any(snapshot["frozen"] for snapshot in cluster.run("storage.snapshots"))
