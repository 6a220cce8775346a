"""A long operation shows that it lives: on the terminal of salt-run, in events on the master's
bus, in the minion's log.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests.integration.cluster import in_background

pytestmark = [pytest.mark.root, pytest.mark.slow, pytest.mark.usefixtures("clean")]


def test_g11_the_runner_shows_progress(cluster, busy, heard):
    with busy("slow"):
        cli = cluster.master.salt_run_cli(timeout=60)
        thread, results = in_background(cli.run, "storage.create", "slow", "owner=alpha", "size=1", "--out=nested")
        # Where all is slow, it is not waiting yet when it says so for the first time.
        event = heard("storage/progress/", 60)
        while not event["data"]["text"].startswith("create 'slow' of alpha: waiting for the test"):
            event = heard("storage/progress/", 60)
        own = heard("salt/run/", 60)
        while not (own["tag"].endswith("/progress") and own["data"]["message"].startswith("create 'slow' of alpha: waiting")):
            own = heard("salt/run/", 60)
    thread.join()
    assert event["data"]["state"] == "running"
    assert "waiting for the test" in results[0].stdout
    assert "size" in results[0].stdout


def test_json_stays_json(cluster, busy, heard):
    with busy("slow json"):
        thread, results = in_background(cluster.run, "storage.create", "slow json", "owner=alpha", "size=1")
        assert heard("storage/progress/") is not None
    thread.join()
    assert results[0]["volume"]["size"] == 1


def test_the_engine_fires_events_and_the_minion_logs(cluster, busy, heard):
    log = Path(cluster.minions["alpha"].config["log_file"])
    with busy("slow state"):
        thread, results = in_background(cluster.job, "alpha", "state.single", "storage_volume.present", name="slow state", size=1)
        event = heard("storage/progress/")
        while event["data"]["op"] != "create":  # earlier operations may be slow too
            event = heard("storage/progress/")
    thread.join()
    assert event["data"]["minion"] == "alpha"
    end = heard("storage/progress/")
    while end["data"]["state"] == "running" or end["data"]["id"] != event["data"]["id"]:
        end = heard("storage/progress/")
    assert end["data"]["state"] == "done"
    assert next(iter(results[0].values()))["result"] is True
    assert "works on it for" in log.read_text(encoding="utf-8", errors="replace")


def test_g11_a_long_step_of_a_minion_is_an_event_of_the_master(cluster, heard, tmp_path, monkeypatch):
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    mkfs = tmp_path / "mkfs.ext4"
    mkfs.write_text(f'#!/bin/sh\nread -r _ < {gate}\nexec {shutil.which("mkfs.ext4")} "$@"\n')
    mkfs.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    given = {"name": "slow step", "size": 1, "mount": str(cluster.root / "alpha" / "srv")}
    thread, results = in_background(cluster.call, "alpha", "state.single", "storage_volume.mounted", **given)
    event = _of(heard, "mkfs.ext4")
    gate.write_text("\n")
    thread.join()
    assert next(iter(results[0].values()))["result"] is True
    end = _of(heard, "mkfs.ext4")
    while end["state"] == "running":
        end = _of(heard, "mkfs.ext4")
    assert (event["minion"], event["volume"], event["owner"], end["state"]) == ("alpha", "slow step", "alpha", "done")
    assert event["volume_id"] == cluster.run("storage.volume", "slow step", "owner=alpha")["id"]
    assert event["text"].startswith("mkfs.ext4 'slow step' of alpha: make a file system of type ext4 on ")


def _of(heard, op):
    """Return the next event of a program; of others there may be some, where all is slow."""
    event = heard("storage/progress/", 60)["data"]
    while event["op"] != op:
        event = heard("storage/progress/", 60)["data"]
    return event
