"""A host that was fenced comes back: what it still has of the volume is stale, and goes before anything else (rows U10, R18)."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.root


def controller(host):
    return host.flow.controller._service(start=True)


def admin(minion, op, **args):
    from saltstorage.controller.core import Caller

    return controller(minion).call(op, {"name": "data", "owner": "shared", **args}, Caller())


@pytest.fixture
def two(hosts):
    """The host that is taken for dead, with a mounted shared volume that it has not written all of, and the one that takes over."""
    dead, heir = hosts("web1"), hosts("web2")
    admin(dead, "create", size=1)
    assert mounted(dead)["result"]
    # The kernel writes what it has by itself after 5 s, which the test may take.
    subprocess.run(["mount", "-o", "remount,commit=300", dead.mount_point], check=True)
    Path(dead.mount_point, "old").write_text("written")
    subprocess.run(["sync", "--file-system", dead.mount_point], check=True)
    Path(dead.mount_point, "late").write_text("never written")
    admin(dead, "disconnect", host="web1", fenced=True)
    return dead, heir


def mounted(host, **given):
    return host.mounted(owner="shared", size=None, fstype="ext4", **given)


@pytest.mark.parametrize("function", ["mounted", "connected"])
def test_u10_the_one_that_comes_back_is_told_and_rid_of_its_device(two, function):
    dead, heir = two
    # One machine plays both hosts: the heir's own loop device is another one.
    assert heir.state("connected", owner="shared")["result"] is True
    device = os.path.realpath(dead.folder / "dev" / "data")
    given = {"size": None, "owner": "shared"}
    before = dead.state(function, test=True, **given)
    if function == "mounted":
        assert before["result"] is False
        assert "would be removed" in before["comment"]
        assert mounted_at(dead)
        done = dead.state(function, **given)
        assert (done["result"], done["changes"]) == (False, {})
        assert done["comment"].startswith("FAILED_PRECONDITION")
        assert f"its stale device {device} was removed" in done["comment"]
        assert dead.flow.consumer.attachments() == ([], [])
        assert (dead.folder / "fstab").read_text() == ""
    else:
        # Two hosts may be connected; the stale device goes and another comes.
        assert before["result"] is None
        assert dead.state(function, **given)["result"] is True
    assert not mounted_at(dead)


def test_u10_disconnected_removes_it_and_the_controller_forgets(two):
    dead, _ = two
    assert [f.host for f in controller(dead).catalog.fences()] == ["web1"]
    done = dead.state("disconnected", owner="shared")
    assert done["result"] is True, done
    assert done["changes"]["path"]["new"] is None
    assert "what had not been written is lost" in done["comment"]
    assert controller(dead).catalog.fences() == []
    assert dead.state("disconnected", owner="shared")["changes"] == {}


@pytest.mark.parametrize("ours", [True, False])
def test_c14_a_mount_point_that_was_there_stays(two, ours):
    dead, _ = two
    if not ours:
        assert dead.state("disconnected", owner="shared")["result"]
        os.mkdir(dead.mount_point)
        assert mounted(dead)["result"]
        admin(dead, "disconnect", host="web1", fenced=True)
    assert dead.state("disconnected", owner="shared")["result"]
    assert os.path.isdir(dead.mount_point) is not ours


def test_r18_what_was_not_written_never_is(two):
    dead, heir = two
    assert dead.state("disconnected", owner="shared")["result"] is True
    assert mounted(heir)["result"] is True
    assert sorted(os.listdir(heir.mount_point)) == ["lost+found", "old"]


def test_r18_mounted_again_without_a_word_in_between(two):
    """Nobody else has it: the host gets it back, and still nothing stale is written."""
    dead, _ = two
    done = mounted(dead)
    assert done["result"] is True, done
    assert sorted(os.listdir(dead.mount_point)) == ["lost+found", "old"]
    assert controller(dead).catalog.fences() == []
    assert mounted(dead)["changes"] == {}


def test_a_process_that_has_files_open_does_not_keep_it(two):
    dead, heir = two
    with Path(dead.mount_point, "old").open() as file:
        done = dead.state("disconnected", owner="shared")
        # A loop device stays while a file system on it is in use; nothing can be written to it any more.
        assert done["result"] in (True, False)
        if not done["result"]:
            assert "in use" in done["comment"]
            assert [f.host for f in controller(dead).catalog.fences()] == ["web1"], "not given again before it is gone"
        file.close()
    assert dead.state("disconnected", owner="shared")["result"] is True
    assert controller(dead).catalog.fences() == []
    assert mounted(heir)["result"] is True
    assert sorted(os.listdir(heir.mount_point)) == ["lost+found", "old"]


def test_deleting_the_volume_forgets_the_fence(two):
    dead, _ = two
    # Its kernel is gone, and with it the device.
    device = os.path.realpath(dead.folder / "dev" / "data")
    subprocess.run(["umount", dead.mount_point], check=True)
    subprocess.run(["losetup", "--detach", device], check=True)
    admin(dead, "delete")
    assert controller(dead).catalog.fences() == []
    done = dead.state("disconnected", owner="shared")
    assert done["result"] is True, done
    assert dead.flow.consumer.attachments() == ([], [])


def mounted_at(host):
    return host.mount_point in Path("/proc/mounts").read_text()
