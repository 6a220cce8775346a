"""``test=True`` of every state: nothing changes anywhere, and a real run does what was foretold."""

from __future__ import annotations

import sqlite3
import subprocess
from pathlib import Path

import pytest

from saltstorage.controller.service import Service

pytestmark = pytest.mark.root

WOULD, NOTHING, CANNOT = None, True, False
PRESENT = ("present", {"size": 1})
CONNECTED = ("connected", {"size": 1})
MOUNTED = ("mounted", {"size": 1})
CUT = ("snapshot_present", {"name": "cut"})
ROTATED = ("snapshot_rotated", {"name": "daily"})

CASES = [
    ([], PRESENT, WOULD),
    ([PRESENT], PRESENT, NOTHING),
    ([PRESENT], ("present", {"size": 2}), WOULD),
    ([PRESENT], ("present", {"size": 1, "labels": {"env": "prod"}}), WOULD),
    ([PRESENT], ("present", {"size": 2, "resize": False}), CANNOT),
    ([PRESENT], ("absent", {}), WOULD),
    ([], ("absent", {}), NOTHING),
    ([CONNECTED], ("absent", {}), CANNOT),
    ([], CONNECTED, WOULD),
    ([CONNECTED], CONNECTED, NOTHING),
    ([CONNECTED], ("connected", {"read_only": True}), CANNOT),
    ([], ("connected", {}), CANNOT),
    ([CONNECTED], ("disconnected", {}), WOULD),
    ([PRESENT], ("disconnected", {}), NOTHING),
    ([], MOUNTED, WOULD),
    ([CONNECTED], MOUNTED, WOULD),
    ([MOUNTED], MOUNTED, NOTHING),
    ([MOUNTED], ("mounted", {"size": 2}), WOULD),
    ([MOUNTED], ("mounted", {"fstype": "ext4"}), CANNOT),
    ([MOUNTED], ("unmounted", {}), WOULD),
    ([CONNECTED], ("unmounted", {}), NOTHING),
    ([MOUNTED], ("disconnected", {}), WOULD),
    ([MOUNTED], ("extended", {"size": 2}), WOULD),
    ([PRESENT], ("extended", {"size": 1}), NOTHING),
    ([], ("extended", {"size": 1}), CANNOT),
    ([PRESENT], CUT, WOULD),
    ([PRESENT, CUT], CUT, NOTHING),
    ([], CUT, CANNOT),
    ([PRESENT, CUT], ("snapshot_absent", {"name": "cut"}), WOULD),
    ([PRESENT], ("snapshot_absent", {"name": "cut"}), NOTHING),
    ([PRESENT], ROTATED, WOULD),
    ([PRESENT, ROTATED], ROTATED, NOTHING),
    ([], ROTATED, CANNOT),
]


def everything(host):
    """Return all that a state could change: files, links, records, locks, devices, mounts …"""
    files = {}
    for path in sorted(host.root.rglob("*")):
        # A mounted file system writes into its volume at any time, and SQLite keeps files beside
        # the database.
        if not path.is_relative_to(host.mount_point) and ".sqlite" not in path.name:
            volume = path.name.startswith("volume-")
            facts = path.lstat()
            files[str(path)] = (facts.st_mode, facts.st_size, 0 if volume or path.is_dir() else facts.st_mtime_ns)
    rows = []
    for database in host.root.rglob("catalog.sqlite"):
        with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as connection:
            # When a backend was looked at last is written by the controller's own thread.
            rows = [line for line in connection.iterdump() if 'INTO "backends"' not in line]
    loops = subprocess.run(
        ["losetup", "--list", "--noheadings", "--output", "NAME,BACK-FILE,RO"], capture_output=True, text=True, check=True
    )
    devices = [line.split() for line in loops.stdout.splitlines() if str(host.root) in line]
    mounts = [line for line in Path("/proc/mounts").read_text().splitlines() if str(host.root) in line]
    return {"files": files, "rows": rows, "devices": devices, "mounts": mounts}


@pytest.mark.parametrize(
    ("before", "state", "result"), CASES, ids=["-".join([*(name for name, _ in b), f"then {s[0]} {s[1]}"]) for b, s, _ in CASES]
)
def test_g1_a_dry_run_reads_and_foretells(host, monkeypatch, before, state, result):
    for function, given in before:
        done = host.state(function, **given)
        assert done["result"] is True, done
    asked = []
    call = Service.call
    monkeypatch.setattr(Service, "call", lambda self, op, args, caller: asked.append(op) or call(self, op, args, caller))
    function, given = state
    found = everything(host)
    dry = host.state(function, test=True, **given)
    # Reading makes an empty catalog where there was none, since there is no controller yet to ask.
    if before:
        assert everything(host) == found
    else:
        assert {key: value for key, value in everything(host).items() if key in ("devices", "mounts")} == {"devices": [], "mounts": []}
        assert host.flow.consumer.attachments() == ([], [])
    assert set(asked) <= {"inventory"}
    assert dry["result"] is result, dry
    assert bool(dry["changes"]) is (result is WOULD), dry
    real = host.state(function, **given)
    assert real["result"] is (result is not CANNOT), real
    assert bool(real["changes"]) is (result is WOULD), real
