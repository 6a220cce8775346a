"""Copies that are larger than their origin, and mounted beside it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

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
