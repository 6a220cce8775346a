"""Copies that are larger than their origin, and mounted beside it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from saltstorage.controller.admin import copying

pytestmark = pytest.mark.root


@pytest.mark.parametrize("kind", ["snapshot", "volume"])
def test_p8_r20_a_larger_copy_is_mounted_beside_its_origin(host, kind):
    """P6, P8, R20: with the data, at full size, and although XFS mounts no two of one UUID by itself."""
    assert host.mounted()["result"] is True
    Path(host.mount_point, "file").write_text("kept")
    assert host.state("disconnected")["result"] is True
    assert host.state("snapshot_present", "cut")["result"] is True
    assert host.mounted()["result"] is True
    source = {"snapshot": "cut"} if kind == "snapshot" else {"volume": "data"}
    if kind == "volume":
        assert host.state("disconnected")["result"] is True
        assert host.state("present", "copy", size=2, source=source)["result"] is True
        assert host.mounted()["result"] is True
    point = host.folder / "copy"
    wanted = {"name": "copy", "size": 2, "source": source, "mount": str(point)}
    done = host.mounted(**wanted)
    assert done["result"] is True, done
    facts = os.statvfs(point)
    assert facts.f_blocks * facts.f_frsize > 1.8 * 2**30
    assert (point / "file").read_text() == "kept"
    (point / "file").write_text("changed")
    assert Path(host.mount_point, "file").read_text() == "kept"
    assert host.mounted(**wanted)["changes"] == {}
    assert host.mounted()["changes"] == {}
    assert host.state("disconnected", "copy")["result"] is True


def test_r3_the_table_of_file_systems_names_the_link(host):
    assert host.mounted()["result"] is True
    [line] = (host.folder / "fstab").read_text().splitlines()
    assert line.split()[:2] == [str(host.folder / "dev" / "data"), host.mount_point]


def test_p10_copies_are_as_asked_for_when_their_origin_is_on_another_backend(host, monkeypatch):
    """P10: volumes made of a volume, whoever has them by now, and one made of its snapshot, which has to be gone before the move."""
    others = host.folder / "others"
    host.opts["storage"]["backends"]["other"] = {**host.opts["storage"]["backends"]["local"], "file_driver_path": str(others)}
    host.opts["storage"]["default_backend"] = "local"
    of = {"a": {"volume": "data"}, "given": {"volume": "data"}, "c": {"snapshot": "cut"}, "d": {"volume": "a"}}
    assert host.state("present", size=1)["result"] is True
    assert host.state("snapshot_present", "cut")["result"] is True
    for name, source in of.items():
        assert host.state("present", name, size=1, source=source)["result"] is True
    assert host.state("snapshot_absent", "cut")["result"] is True
    catalog = host.service.catalog
    before = {name: catalog.volume("web1", name) for name in of}
    host.service.giving.give(owner="web1", name="given", new_owner="db1")

    # What is on them does not matter here.
    monkeypatch.setattr(copying, "copy", lambda source, target: "")
    monkeypatch.setattr(copying, "verify", lambda source, target, checksum: None)
    host.service.moves.migrate(owner="web1", name="data", backend="other")

    host.service.giving.give(owner="db1", name="given", new_owner="web1")
    assert len(os.listdir(others)) == 1
    for test in (True, False):
        for name, source in of.items():
            done = host.state("present", name, test=test, size=1, source=source)
            assert (done["result"], done["changes"]) == (True, {}), done
    assert before["d"] == catalog.volume("web1", "d"), "made of one that did not move"
    assert before["c"] == catalog.volume("web1", "c"), "made of a snapshot"
    # Another one of its name is still another one.
    assert host.state("absent")["result"] is True
    assert host.state("present", "a", size=1, source=of["a"])["changes"] == {}
    assert host.state("present", size=1)["result"] is True
    refused = host.state("present", "a", size=1, source=of["a"])
    assert (refused["result"], "source" in refused["comment"]) == (False, True)


def test_p10_a_copy_of_what_was_renamed(host):
    """Row P10: it is one of the same source; by the former name, which now means another volume, it is not."""
    assert host.state("present", size=1)["result"] is True
    assert host.state("present", "copy", size=1, source={"volume": "data"})["result"] is True
    host.service.giving.give(owner="web1", name="data", new_owner="web1", new_name="old")
    for name in ("old", "data"):
        done = host.state("present", "copy", size=1, source={"volume": name})
        assert (done["result"], done["changes"]) == (True, {}), (name, done)
    assert host.state("present", size=1)["result"] is True
    refused = host.state("present", "copy", size=1, source={"volume": "data"})
    assert (refused["result"], "source" in refused["comment"]) == (False, True)
    assert host.state("present", "copy", size=1, source={"volume": "old"})["changes"] == {}
