"""``connected`` and ``mounted`` after the administrator grew the volume, with real devices."""

from __future__ import annotations

import os
import subprocess

import pytest

from saltstorage.consumer.devices import block
from saltstorage.consumer.filesystems import resizefs
from saltstorage.controller.operations.core import Caller
from saltstorage.errors import FailedPreconditionError, UnavailableError
from saltstorage.flow import growth
from tests import needs
from tests.unit.plans.minion import check_result, load

pytestmark = pytest.mark.root

GIB = 2**30
SIZE = {"old": 1, "new": 2}


def admin(host, op, **args):
    return host.service.call(op, {"name": "data", **args}, Caller())


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
    """Apply a state that has something to do.

    Its dry run foretells the changes, and a second run has none.
    """
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


@pytest.fixture(params=["shared", "web1"])
def owner(request):
    return request.param


def behind(host):
    """The hosts that have not followed.

    The check, the answer to another extension, the runner and the records agree on them.
    """
    service = host.service
    volume = service.catalog.volume("shared", "data")
    found = [f.host for f in service.check().findings(kinds="behind")]
    assert found == admin(host, "extend", owner="shared", size=1)["behind"]
    assert found == runner(host).volume("data", "shared")["behind"]
    assert found == [c.host for c in service.catalog.connections(volume_id=volume.id) if c.size < volume.size]
    return found


def runner(host):
    """Return the runner of the controller."""
    return load("_runners/storage.py", __opts__=host.opts)


@pytest.fixture
def two(hosts):
    """Two hosts that have a volume of 1 GiB connected, which then has grown to 2 GiB."""
    first, second = hosts("web1"), hosts("web2")
    admin(first, "create", owner="shared", size=1)
    for host in (first, second):
        done(host.state("connected", owner="shared"))
    assert behind(first) == []
    assert admin(first, "extend", owner="shared", size=2)["behind"] == ["web1", "web2"]
    return first, second


@pytest.mark.parametrize("given", [("connected", {}), ("extended", {"size": 2})], ids=["connected", "extended"])
def test_x6_the_hosts_that_have_not_followed_are_named(two, given):
    function, parameters = given
    first, second = two
    assert behind(first) == ["web1", "web2"]
    result = first.state(function, owner="shared", **parameters)
    assert done(result) == {"size": SIZE}
    assert result["comment"].endswith("It has grown, and not yet on web2."), result
    assert behind(first) == ["web2"]
    assert foretold(second, function, owner="shared", **parameters) == {"size": SIZE}
    assert "not yet on" not in second.state(function, owner="shared", **parameters)["comment"]
    assert behind(first) == []


@pytest.mark.parametrize(
    "given", [("mounted", {"fstype": "xfs"}), ("connected", {}), ("extended", {"size": 2})], ids=lambda given: given[0]
)
@pytest.mark.parametrize("owner", ["shared"], indirect=True)
def test_x6_the_next_run_reports_an_unreported_growth(host, owner, monkeypatch, given):
    function, parameters = given
    done(host.state("mounted", owner=owner, fstype="xfs"))
    grow(host, owner)
    with monkeypatch.context() as patch:
        patch.setattr(growth, "report", unanswered)
        assert host.state("mounted", owner=owner, fstype="xfs")["comment"].startswith("UNAVAILABLE")
    assert fs_size(host) > 1.8 * GIB
    assert behind(host) == ["web1"]
    assert foretold(host, function, owner=owner, **parameters) == {"size": SIZE}
    assert behind(host) == []


@pytest.mark.parametrize("owner", ["shared"], indirect=True)
def test_x6_a_host_whose_device_has_gone_has_not_followed(host, owner):
    done(host.state("connected", owner=owner))
    grow(host, owner)
    subprocess.run(["losetup", "--detach", host.flow.consumer.attachment("data").device], check=True)
    assert done(host.state("extended", owner=owner, size=2)) == {}
    assert behind(host) == ["web1"]
    done(host.state("connected", owner=owner))
    assert device_size(host) == 2 * GIB
    assert behind(host) == []


def test_x6_a_host_has_followed_when_its_file_system_has(host, owner, monkeypatch):
    done(host.state("mounted", owner=owner))
    grow(host, owner)
    service = host.service
    with monkeypatch.context() as patch:
        patch.setattr(resizefs, "grow", unanswered)
        check_result(host.state("mounted", owner=owner), False)
    assert [c.size for c in service.catalog.connections()] == [1]
    assert set(foretold(host, "mounted", owner=owner)) == {"size", "filesystem"}
    assert [c.size for c in service.catalog.connections()] == [2]


@pytest.fixture
def by_hand(host, owner):
    """A volume whose file system somebody else mounted, and which then has grown."""
    done(host.state("mounted", owner=owner))
    done(host.state("unmounted", owner=owner))
    os.makedirs(host.mount_point, exist_ok=True)
    subprocess.run(["mount", str(host.folder / "dev" / "data"), host.mount_point], check=True)
    grow(host, owner)
    return host


def known(host):
    """The size that the controller has for this host."""
    return [c.size for c in host.service.catalog.connections()]


@pytest.mark.parametrize("function", ["connected", "present", "connect"])
@pytest.mark.parametrize("owner", ["web1"], indirect=True)
def test_x6_a_host_whose_file_system_is_mounted_by_others_and_did_not_grow_has_not_followed(by_hand, owner, function):
    if function == "connect":
        by_hand.module.connect("data", owner=owner)
    else:
        assert foretold(by_hand, function, **({"size": 2} if function == "present" else {})).keys() == {"size"}
    assert (device_size(by_hand), fs_size(by_hand) < GIB) == (2 * GIB, True)
    assert known(by_hand) == [1]
    assert [f.host for f in by_hand.service.check().findings(kinds="behind")] == ["web1"]
    # Only those who mounted it can make it grow. Then its growth is reported.
    subprocess.run(["xfs_growfs", by_hand.mount_point], check=True, capture_output=True)
    function, given = ("present", {"size": 2}) if function == "present" else ("connected", {})
    assert foretold(by_hand, function, **given) == {"size": SIZE}
    assert known(by_hand) == [2]


def test_x6_a_read_only_mount_of_others_need_not_follow(by_hand, owner):
    subprocess.run(["mount", "-o", "remount,ro", by_hand.mount_point], check=True)
    assert foretold(by_hand, "connected", owner=owner) == {"size": SIZE}
    assert known(by_hand) == [2]


@pytest.mark.parametrize("owner", ["web1"], indirect=True)
@pytest.mark.parametrize("by", ["admin", "state"])
def test_x6_present_says_that_it_has_followed(host, owner, by):
    done(host.state("connected"))
    if by == "admin":
        grow(host, owner)
    assert set(foretold(host, "present", size=2)) == {"size"}
    assert device_size(host) == 2 * GIB
    assert known(host) == [2]


def unanswered(*args, **given):
    raise UnavailableError("no answer")


def test_x6_only_a_host_that_is_connected_says_that_it_has_followed(hosts):
    host = hosts("web1")
    admin(host, "create", owner="web1", size=1)
    with pytest.raises(FailedPreconditionError, match="not connected"):
        host.flow.ask("followed", {"name": "data", "size": 1})
    done(host.state("connected"))
    host.flow.ask("followed", {"name": "data", "size": 9})
    assert [c.size for c in host.service.catalog.connections()] == [1], "no more than there is"


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
    needs.filesystem(fstype)
    given = {"owner": owner, "fstype": fstype, "mount": host.mount_point}
    done(host.state("mounted", **given))
    before = fs_size(host)
    grow(host, owner)
    if fstype == "ext4" and not resizefs.may_use_resources():
        # It cannot follow while it is mounted, and no run says that all is well.
        for test in (True, False):
            result = host.state("mounted", test=test, **given)
            assert (result["result"], result["changes"]) == (False, {}), result
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
    assert set(foretold(host, "mounted", owner=owner)) == {"size", "filesystem"}
    assert fs_size(host) > 1.8 * GIB


def test_c4_with_resize_false_the_file_system_stays(host, owner):
    done(host.state("mounted", owner=owner))
    grow(host, owner)
    assert foretold(host, "mounted", owner=owner, resize=False) == {"size": SIZE}
    assert (device_size(host), fs_size(host) < GIB) == (2 * GIB, True)


@pytest.mark.parametrize("given", [{"read_only": True}, {"mount_options": "ro"}])
def test_c4_a_file_system_that_is_only_read_stays(host, owner, given):
    done(host.state("mounted", owner=owner))
    done(host.state("disconnected", owner=owner))
    done(host.state("mounted", owner=owner, **given))
    grow(host, owner)
    assert foretold(host, "mounted", owner=owner, **given) == {"size": SIZE}
    assert (device_size(host), fs_size(host) < GIB) == (2 * GIB, True)


def test_c4_a_mount_that_was_made_read_only_stays_until_it_is_written_again(host, owner):
    done(host.state("mounted", owner=owner))
    subprocess.run(["mount", "-o", "remount,ro", host.mount_point], check=True)
    grow(host, owner)
    assert foretold(host, "mounted", owner=owner) == {"size": SIZE}
    subprocess.run(["mount", "-o", "remount,rw", host.mount_point], check=True)
    assert set(foretold(host, "mounted", owner=owner)) == {"filesystem"}


def test_c4_a_type_that_cannot_grow_stays(host, owner):
    needs.filesystem("vfat")
    given = {"owner": owner, "fstype": "vfat"}
    done(host.state("mounted", **given))
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
    assert block.size(str(host.folder / "dev" / "data")) == 2 * GIB
    dry = host.state("extended", size=2, test=True, owner=owner)
    assert dry["changes"]["size"] == SIZE
    assert foretold(host, "mounted", owner=owner)["size"] == SIZE
    assert fs_size(host) > 1.8 * GIB


@pytest.mark.parametrize("owner", ["web1"], indirect=True)
def test_c4_the_state_grows_further_after_the_administrator(host, owner):
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
