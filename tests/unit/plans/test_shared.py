"""Volumes of ``shared`` on two hosts: the rights of each while the other has them."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.unit.plans.minion import check_result, ok

pytestmark = pytest.mark.root


@pytest.fixture
def two(hosts):
    """Two hosts and a shared volume ``data``."""
    from saltstorage.controller.operations.core import Caller

    first, second = hosts("web1"), hosts("web2")
    first.service.call("create", {"name": "data", "size": 1, "owner": "shared"}, Caller())
    return first, second


def mounted(host, **given):
    # ext4: one kernel mounts no two XFS of one UUID, and these two hosts are one machine.
    return host.mounted(owner="shared", size=None, fstype="ext4", **given)


def test_c12_one_host_writes_and_no_other_mounts(two):
    first, second = two
    ok(mounted(first))
    Path(first.mount_point, "file").write_text("kept")
    for given in ({}, {"read_only": True}, {"test": True}, {"read_only": True, "test": True}):
        done = mounted(second, **given)
        assert (done["result"], done["changes"]) == (False, {}), done
        assert done["comment"].startswith("FAILED_PRECONDITION")
        assert "web1 (mounted, writes)" in done["comment"]
    assert second.state("connected", owner="shared")["comment"].startswith("FAILED_PRECONDITION")
    assert second.flow.consumer.attachments() == ([], [])
    # Unmounted, it may be mounted by hand at any moment: only disconnected is it free.
    ok(first.state("unmounted", owner="shared"))
    check_result(mounted(second), False)
    ok(first.state("disconnected", owner="shared"))
    ok(mounted(second))
    assert Path(second.mount_point, "file").read_text() == "kept"


def test_c5_all_read_and_u9_one_goes(two):
    """Rows C5, U9, R14: read-only on every level. A host that goes leaves the other its device."""
    first, second = two
    ok(mounted(first))
    Path(first.mount_point, "file").write_text("kept")
    assert mounted(first, read_only=True)["comment"].startswith("ALREADY_EXISTS")
    ok(first.state("disconnected", owner="shared"))
    for host in two:
        done = mounted(host, read_only=True)
        assert done["result"] is True, done
        assert ok(mounted(host, read_only=True))["changes"] == {}
        device = os.path.realpath(host.folder / "dev" / "data")
        assert subprocess.run(["blockdev", "--getro", device], capture_output=True, check=True).stdout.strip() == b"1"
        assert "ro" in (host.folder / "fstab").read_text().split()[3].split(",")
        with pytest.raises(OSError, match="Read-only"):
            Path(host.mount_point, "file").write_text("lost")
    assert mounted(second)["comment"].startswith("FAILED_PRECONDITION")
    ok(first.state("disconnected", owner="shared"))
    assert mounted(second)["comment"].startswith("ALREADY_EXISTS")
    assert Path(second.mount_point, "file").read_text() == "kept"
    # The only one left still has to say that it wants to write.
    ok(second.state("disconnected", owner="shared"))
    ok(mounted(second))


def test_connected_for_writing_on_two_hosts_without_a_mount(two):
    """A cluster file system or database looks after itself; no host may mount another one then."""
    for host in two:
        ok(host.state("connected", owner="shared"))
        assert ok(host.state("connected", owner="shared"))["changes"] == {}
    first, second = two
    for test in (True, False):
        assert mounted(first, test=test)["comment"].startswith("FAILED_PRECONDITION"), test
    ok(second.state("disconnected", owner="shared"))
    planned = mounted(first, test=True)
    assert planned["result"] is None, planned
    assert set(planned["changes"]) == {"mapping", "mount"}
    done = mounted(first)
    assert done["result"] is True, done
    assert set(done["changes"]) >= {"mapping", "mount", "filesystem"}
    assert ok(mounted(first))["changes"] == {}


def test_c13_read_only_makes_no_file_system(two):
    first, _ = two
    done = mounted(first, read_only=True)
    assert done["comment"].startswith("FAILED_PRECONDITION")
    assert first.flow.inventory().volume("shared", "data").formatted is False
