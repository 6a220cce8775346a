"""A file system that is held still for a snapshot is let go whoever dies meanwhile: nobody's
writes wait for ever.
"""

from __future__ import annotations

import contextlib
import json
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
    """A function that lets alpha freeze its volume for a snapshot that is not taken while the
    context lasts, and yields the mount.
    """

    @contextlib.contextmanager
    def make():
        mount = tmp_path / "srv"
        made = cluster.apply("alpha", state("mounted", "db", size=1, mount=str(mount), fstype="xfs"))
        assert made["db"]["result"] is True, made
        with busy("db"):
            arguments = [{"volume": "db"}, {"freeze": True}, {"timeout": SECONDS}]
            sls = "#!json\n" + json.dumps({"cut": {"storage_snapshot.present": arguments}})
            thread, results = in_background(cluster.apply, "alpha", sls, timeout=2 * SECONDS)
            # The minion asks the controller only when it has frozen. Earlier steps may have been
            # slow, and reported too.
            while heard("storage/progress/", 60)["data"]["op"] != "snapshot_create":
                pass
            (freezer,) = freezers(mount)
            try:
                yield mount, freezer, results
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
    with frozen() as (mount, freezer, results):
        for pid in engines(cluster):
            os.kill(pid, signal.SIGKILL)
        assert writes(mount)
        freezer.wait(SECONDS)
    (failed,) = results[0].values()
    assert (failed["result"], failed["changes"]) == (False, {}), failed
    assert not any(snapshot["frozen"] for snapshot in cluster.run("storage.snapshots"))


def test_n5_the_minions_job_is_killed(cluster, frozen):
    with frozen() as (mount, freezer, _):
        freezer.parent().kill()
        assert writes(mount)
        freezer.wait(SECONDS)
    assert not any(snapshot["frozen"] for snapshot in cluster.run("storage.snapshots"))
