"""What ``connected`` and ``mounted`` do when the administrator grew the volume, with real devices and file systems."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest

from saltstorage.consumer import commands, devices, filesystem
from saltstorage.controller.core import Caller

pytestmark = pytest.mark.root

GIB = 2**30
SIZE = {"old": 1, "new": 2}


def admin(host, op, **args):
    return host.flow.controller._service(start=False).call(op, {"name": "data", **args}, Caller())


def device_size(host):
    with open(host.folder / "dev" / "data", "rb") as file:
        return os.lseek(file.fileno(), 0, os.SEEK_END)


def fs_size(host):
    facts = os.statvfs(host.mount_point)
    return facts.f_blocks * facts.f_frsize


def done(result):
    assert result["result"] is True, result
    return result["changes"]


def foretold(host, function, **given):
    """Apply a state that has something to do; its dry run says before what, and a second run finds nothing."""
    dry = host.state(function, test=True, **given)
    assert dry["result"] is None, dry
    changes = done(host.state(function, **given))
    if "mount" in changes:
        # In a dry run it stands for the table of file systems too.
        changes.pop("fstab", None)
    assert set(dry["changes"]) == set(changes)
    assert dry["changes"].get("size") == changes.get("size")
    assert done(host.state(function, **given)) == {}
    assert done(host.state(function, test=True, **given)) == {}
    return changes


def have(fstype):
    if not shutil.which(f"mkfs.{fstype}", path=commands.SEARCH):
        pytest.skip(f"mkfs.{fstype} is not installed")


@pytest.fixture(params=["shared", "web1"])
def owner(request):
    return request.param


@pytest.fixture
def host(hosts, owner):
    """A host, and a volume of 1 GiB that the administrator made."""
    host = hosts("web1")
    admin(host, "create", owner=owner, size=1)
    return host


def grow(host, owner):
    """As ``salt-run storage.extend`` does on the master."""
    admin(host, "extend", owner=owner, size=2)


@pytest.mark.parametrize("fstype", ["xfs", "btrfs", "ext4"])
def test_c4_the_mounted_file_system_follows_without_size(host, owner, fstype):
    have(fstype)
    given = {"owner": owner, "fstype": fstype, "mount": host.mount_point}
    first = host.state("mounted", **given)
    if "unknown filesystem type" in first["comment"]:
        pytest.skip(f"this kernel has no {fstype}")
    done(first)
    before = fs_size(host)
    grow(host, owner)
    if fstype == "ext4" and not filesystem._may_use_resources():
        # It cannot follow while it is mounted, and no run says that all is well.
        for test in (True, False):
            result = host.state("mounted", test=test, **given)
            assert (result["result"], result["changes"]) == (False, {})
            assert "CAP_SYS_RESOURCE" in result["comment"]
        assert (device_size(host), fs_size(host)) == (GIB, before)
        done(host.state("unmounted", owner=owner))
        assert set(foretold(host, "mounted", **given)) == {"size", "mount", "filesystem"}
    else:
        assert set(foretold(host, "mounted", **given)) == {"size", "filesystem"}
    assert device_size(host) == 2 * GIB
    assert fs_size(host) > before + 0.8 * GIB


@pytest.mark.parametrize("fstype", ["xfs", "ext4"])
def test_c4_one_that_is_not_mounted_follows_when_it_is(host, owner, fstype):
    given = {"owner": owner, "fstype": fstype}
    done(host.state("mounted", **given))
    before = fs_size(host)
    done(host.state("unmounted", owner=owner))
    grow(host, owner)
    assert set(foretold(host, "mounted", **given)) == {"size", "mount", "filesystem"}
    assert fs_size(host) > before + 0.8 * GIB


def test_c4_the_device_follows_first_and_the_file_system_later(host, owner):
    done(host.state("mounted", owner=owner))
    grow(host, owner)
    assert foretold(host, "connected", owner=owner) == {"size": SIZE}
    assert (device_size(host), fs_size(host) < GIB) == (2 * GIB, True)
    assert set(foretold(host, "mounted", owner=owner)) == {"filesystem"}
    assert fs_size(host) > 1.8 * GIB


def test_c4_with_resize_false_the_file_system_stays(host, owner):
    done(host.state("mounted", owner=owner))
    grow(host, owner)
    assert foretold(host, "mounted", owner=owner, resize=False) == {"size": SIZE}
    assert (device_size(host), fs_size(host) < GIB) == (2 * GIB, True)


@pytest.mark.parametrize("given", [{"read_only": True}, {"options": "ro"}])
def test_c4_what_is_only_read_stays(host, owner, given):
    done(host.state("mounted", owner=owner))
    done(host.state("disconnected", owner=owner))
    done(host.state("mounted", owner=owner, **given))
    grow(host, owner)
    assert foretold(host, "mounted", owner=owner, **given) == {"size": SIZE}
    assert (device_size(host), fs_size(host) < GIB) == (2 * GIB, True)


def test_c4_what_somebody_made_read_only_stays_until_it_is_written_again(host, owner):
    done(host.state("mounted", owner=owner))
    subprocess.run(["mount", "-o", "remount,ro", host.mount_point], check=True)
    grow(host, owner)
    assert foretold(host, "mounted", owner=owner) == {"size": SIZE}
    subprocess.run(["mount", "-o", "remount,rw", host.mount_point], check=True)
    assert set(foretold(host, "mounted", owner=owner)) == {"filesystem"}


def test_c4_a_type_that_cannot_grow_stays(host, owner):
    have("vfat")
    given = {"owner": owner, "fstype": "vfat"}
    first = host.state("mounted", **given)
    if "unknown filesystem type" in first["comment"]:
        pytest.skip("this kernel has no vfat")
    done(first)
    grow(host, owner)
    assert foretold(host, "mounted", **given) == {"size": SIZE}


@pytest.mark.parametrize("size", [None, 2])
@pytest.mark.parametrize("owner", ["web1"], indirect=True)
def test_c4_the_device_grew_and_it_is_told(host, owner, size):
    done(host.state("connected", size=1))
    grow(host, owner)
    assert foretold(host, "connected", size=size) == {"size": SIZE}
    assert device_size(host) == 2 * GIB


def test_c4_a_device_that_became_larger_by_itself(host, owner):
    """As of NVMe and Ceph: the kernel shows the new size before any state was applied."""
    done(host.state("mounted", owner=owner))
    grow(host, owner)
    subprocess.run(["losetup", "--set-capacity", os.path.realpath(host.folder / "dev" / "data")], check=True)
    assert device_size(host) == 2 * GIB
    assert devices.size(str(host.folder / "dev" / "data")) == 2 * GIB
    dry = host.state("extended", size=2, test=True, owner=owner)
    assert dry["changes"]["size"] == SIZE
    assert foretold(host, "mounted", owner=owner)["size"] == SIZE
    assert fs_size(host) > 1.8 * GIB


@pytest.mark.parametrize("owner", ["web1"], indirect=True)
def test_c4_the_state_grows_what_was_grown_before(host, owner):
    """The administrator grew it to 2 GiB, the state wants 3: told is what the volume did."""
    done(host.state("connected", size=1))
    grow(host, owner)
    assert foretold(host, "connected", size=3) == {"size": {"old": 2, "new": 3}}
    assert device_size(host) == 3 * GIB


def test_c4_a_device_that_is_attached_again_has_no_former_size(host, owner):
    done(host.state("connected", owner=owner))
    grow(host, owner)
    subprocess.run(["losetup", "--detach", os.path.realpath(host.folder / "dev" / "data")], check=True)
    assert set(foretold(host, "connected", owner=owner)) == {"path"}
    assert device_size(host) == 2 * GIB
