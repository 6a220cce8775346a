"""A host that was fenced comes back: its stale devices go before anything else (rows U10, R18)."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from saltstorage.controller.operations.core import new_id
from saltstorage.drivers.files import sparse
from saltstorage.errors import AlreadyExistsError, FailedPreconditionError, UnavailableError
from saltstorage.flow import snapshots
from saltstorage.model import Fence
from tests.unit.plans.minion import ok

pytestmark = pytest.mark.root


def controller(host):
    return host.service


def admin(minion, op, **args):
    from saltstorage.controller.operations.core import Caller

    return controller(minion).call(op, {"name": "data", "owner": "shared", **args}, Caller())


@pytest.fixture
def two(hosts):
    """The host that is taken for dead, and the host that takes over.

    The first has a mounted shared volume and unwritten data.
    """
    dead, heir = hosts("web1"), hosts("web2")
    admin(dead, "create", size=1)
    ok(mounted(dead))
    write(dead)
    admin(dead, "disconnect", host="web1", fenced=True)
    return dead, heir


@pytest.fixture
def own(hosts):
    """A host that is taken for dead, with a mounted volume of its own and unwritten data."""
    dead = hosts("web1")
    ok(dead.mounted(fstype="ext4"))
    write(dead)
    admin(dead, "disconnect", owner="web1", host="web1", fenced=True)
    return dead


@pytest.fixture
def given(own, hosts):
    """The same, and the minion that the volume was given to."""
    controller(own).transfers.give(owner="web1", name="data", new_owner="web2")
    return own, hosts("web2")


def write(host):
    """Leave something in the cache that was not written."""
    # The kernel writes what it has by itself after 5 s, which the test may take.
    subprocess.run(["mount", "-o", "remount,commit=300", host.mount_point], check=True)
    Path(host.mount_point, "old").write_text("written")
    subprocess.run(["sync", "--file-system", host.mount_point], check=True)
    Path(host.mount_point, "late").write_text("never written")


@pytest.fixture
def elsewhere(monkeypatch):
    """The controller is on another machine than the hosts.

    It does not see their loop devices over its files.
    """
    monkeypatch.setattr(sparse, "has_loop_device", lambda path: False)


def let_go(host, how):
    """Let the volume of web1 leave the catalog while its data stays."""
    service = controller(host)
    if how == "unmanage":
        service.adoption.unmanage(owner="web1", name="data")
    elif how == "retain":
        admin(host, "delete", owner="web1", retain=True)
    else:
        volume = service.catalog.volume("web1", "data")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(type(service.core.provider("local")), "list_volumes", lambda self: [])
            (done,) = service.repair().run(kinds="gone", remove=volume.id, apply=True)
        assert done["done"]
    assert service.catalog.volumes() == []


def take_over(host, volume_id, name="data", owner="web2"):
    return controller(host).adoption.manage(name=name, owner=owner, reference=f"volume-{volume_id}")["volume"]["id"]


#: The states that are applied on the host that is back, with their parameters.
BACK = {"disconnected": {}, "unmounted": {}, "absent": {"disconnect": True}, "mounted": {"size": 1}, "connected": {"size": 1}}


def fenced_hosts(host):
    return [fence.host for fence in controller(host).catalog.fences()]


def mounted(host, **given):
    return host.mounted(owner="shared", size=None, fstype="ext4", **given)


@pytest.mark.parametrize("function", ["mounted", "connected"])
def test_u10_the_one_that_comes_back_is_told_and_rid_of_its_device(two, function):
    dead, heir = two
    # One machine plays both hosts: the heir's own loop device is another one.
    ok(heir.state("connected", owner="shared"))
    device = os.path.realpath(dead.folder / "dev" / "data")
    given = {"size": None, "owner": "shared"}
    before = dead.state(function, test=True, **given)
    if function == "mounted":
        assert before["result"] is False, before
        assert "would be removed" in before["comment"]
        assert mounted_at(dead)
        done = dead.state(function, **given)
        assert (done["result"], done["changes"]) == (False, {}), done
        assert done["comment"].startswith("FAILED_PRECONDITION")
        assert f"its stale device {device} was removed" in done["comment"]
        assert dead.flow.consumer.attachments() == ([], [])
        assert (dead.folder / "fstab").read_text() == ""
    else:
        # Two hosts may be connected; the stale device goes and another comes.
        assert before["result"] is None, before
        ok(dead.state(function, **given))
    assert not mounted_at(dead)


def test_u10_disconnected_removes_it_and_the_controller_forgets(two):
    dead, _ = two
    assert fenced_hosts(dead) == ["web1"]
    done = dead.state("disconnected", owner="shared")
    assert done["result"] is True, done
    assert done["changes"]["path"]["new"] is None
    assert "what had not been written is lost" in done["comment"]
    assert fenced_hosts(dead) == []
    assert ok(dead.state("disconnected", owner="shared"))["changes"] == {}


@pytest.mark.parametrize("ours", [True, False])
def test_c14_a_mount_point_that_was_there_stays(two, ours):
    dead, _ = two
    if not ours:
        ok(dead.state("disconnected", owner="shared"))
        os.mkdir(dead.mount_point)
        ok(mounted(dead))
        admin(dead, "disconnect", host="web1", fenced=True)
    ok(dead.state("disconnected", owner="shared"))
    assert os.path.isdir(dead.mount_point) is not ours


def test_r18_unwritten_data_is_never_written(two):
    dead, heir = two
    ok(dead.state("disconnected", owner="shared"))
    ok(mounted(heir))
    assert sorted(os.listdir(heir.mount_point)) == ["lost+found", "old"]


def test_r18_mounted_again_without_a_word_in_between(two):
    """Nobody else has it: the host gets it back, and still nothing stale is written."""
    dead, _ = two
    done = mounted(dead)
    assert done["result"] is True, done
    assert sorted(os.listdir(dead.mount_point)) == ["lost+found", "old"]
    assert fenced_hosts(dead) == []
    assert ok(mounted(dead))["changes"] == {}


def test_a_process_that_has_files_open_does_not_keep_it(two):
    dead, heir = two
    with Path(dead.mount_point, "old").open() as file:
        done = dead.state("disconnected", owner="shared")
        # A loop device stays while a file system on it is in use. Nothing can be written to it any
        # more.
        assert done["result"] in (True, False)
        if not done["result"]:
            assert "in use" in done["comment"]
            assert fenced_hosts(dead) == ["web1"], "not given again before it is gone"
        file.close()
    ok(dead.state("disconnected", owner="shared"))
    assert fenced_hosts(dead) == []
    ok(mounted(heir))
    assert sorted(os.listdir(heir.mount_point)) == ["lost+found", "old"]


def test_a_host_without_a_device_lifts_the_fence_of_a_deleted_volume(two):
    dead, _ = two
    device = os.path.realpath(dead.folder / "dev" / "data")
    subprocess.run(["umount", dead.mount_point], check=True)
    subprocess.run(["losetup", "--detach", device], check=True)
    admin(dead, "delete")
    assert fenced_hosts(dead) == ["web1"]
    done = dead.state("disconnected", owner="shared")
    assert done["result"] is True, done
    assert "no device of it was left here" in done["comment"]
    assert fenced_hosts(dead) == []
    assert dead.flow.consumer.attachments() == ([], [])


def test_r18_unmounted_writes_nothing(two):
    dead, heir = two
    before = dead.state("unmounted", owner="shared", test=True)
    assert before["result"] is None, before
    assert "would be removed" in before["comment"]
    assert mounted_at(dead)
    done = dead.state("unmounted", owner="shared")
    assert done["result"] is True, done
    assert "what had not been written is lost" in done["comment"]
    assert not mounted_at(dead)
    assert (dead.folder / "fstab").read_text() == ""
    assert fenced_hosts(dead) == []
    assert ok(dead.state("unmounted", owner="shared"))["changes"] == {}
    assert not_written(heir, owner="shared", size=None)


def test_r18_nothing_is_unmounted_while_the_controller_cannot_be_asked(two, monkeypatch):
    """A host that is cut off from the master may be taken for dead, and still reach the storage."""
    dead, _ = two
    monkeypatch.setattr(type(dead.flow.controller), "call", unanswered)
    done = dead.state("unmounted", owner="shared")
    assert done["comment"].startswith("UNAVAILABLE")
    assert mounted_at(dead)


def test_r18_the_module_s_disconnect_writes_nothing(two):
    dead, heir = two
    assert dead.module.disconnect("data", owner="shared") is True
    assert not mounted_at(dead)
    assert fenced_hosts(dead) == []
    assert dead.module.disconnect("data", owner="shared") is False
    assert not_written(heir, owner="shared", size=None)


@pytest.mark.parametrize("function", ["disconnected", "unmounted", "mounted", "connected", "absent"])
def test_r18_given_to_another_minion_it_is_still_stale(given, function):
    dead, heir = given
    parameters = {"disconnected": {}, "unmounted": {}, "absent": {"disconnect": True}}.get(function, {"size": 1})
    before = dead.state(function, test=True, **parameters)
    assert "would be removed" in before["comment"], before
    assert mounted_at(dead)
    done = dead.state(function, **parameters)
    # No new volume of the name is made at once, since the user expects the data of the volume that
    # was given away.
    assert done["result"] is (function not in ("mounted", "connected")), done
    assert "what had not been written is lost" in done["comment"]
    assert not mounted_at(dead)
    assert dead.flow.consumer.attachments() == ([], [])
    assert (dead.folder / "fstab").read_text() == ""
    assert fenced_hosts(dead) == []
    assert not_written(heir)


@pytest.mark.parametrize(("how", "function"), [("unmanage", "disconnected"), ("retain", "unmounted"), ("gone", "mounted")])
def test_r18_gone_from_the_catalog_its_data_stays_and_so_does_the_fence(own, hosts, elsewhere, how, function):
    heir = hosts("web2")
    volume_id = controller(own).catalog.volume("web1", "data").id
    let_go(own, how)
    assert fenced_hosts(own) == ["web1"]
    before = own.state(function, test=True, **BACK[function])
    assert "would be removed" in before["comment"], before
    assert mounted_at(own)
    done = own.state(function, **BACK[function])
    assert done["result"] is (function not in ("mounted", "connected")), done
    assert "what had not been written is lost" in done["comment"]
    assert not mounted_at(own)
    assert own.flow.consumer.attachments() == ([], [])
    assert fenced_hosts(own) == []
    take_over(heir, volume_id)
    assert not_written(heir)


@pytest.mark.parametrize("function", BACK)
def test_r18_taken_over_again_by_another_minion_it_is_still_stale(own, hosts, elsewhere, function):
    heir = hosts("web2")
    volume_id = controller(own).catalog.volume("web1", "data").id
    let_go(own, "unmanage")
    assert take_over(heir, volume_id) != volume_id
    done = own.state(function, **BACK[function])
    assert done["result"] is (function not in ("mounted", "connected")), done
    assert "what had not been written is lost" in done["comment"]
    assert own.flow.consumer.attachments() == ([], [])
    assert fenced_hosts(own) == []
    assert not_written(heir)


def test_r18_let_go_of_the_module_s_disconnect_writes_nothing(own, hosts, elsewhere):
    volume_id = controller(own).catalog.volume("web1", "data").id
    let_go(own, "unmanage")
    assert own.module.disconnect("data") is True
    assert fenced_hosts(own) == []
    heir = hosts("web2")
    take_over(heir, volume_id)
    assert not_written(heir)


@pytest.mark.parametrize("name", ["data", "other"])
def test_r18_taken_over_again_by_the_host_itself(own, elsewhere, name):
    """Also under another name, by which it is not attached.

    Attached twice on one host, it would be destroyed there.
    """
    let_go(own, "unmanage")
    new_id = take_over(own, own.flow.consumer.attachment("data").volume_id, name, "web1")
    if name == "other":
        done = own.state("connected", name)
        assert done["result"] is False, done
        assert "still attached here as 'data' of web1" in done["comment"]
        assert fenced_hosts(own) == ["web1"]
        ok(own.state("disconnected"))
    done = own.state("mounted", name, fstype="ext4")
    assert done["result"] is True, done
    assert own.flow.consumer.attachment(name).volume_id == new_id
    assert fenced_hosts(own) == []
    assert sorted(os.listdir(own.mount_point)) == ["lost+found", "old"]
    ok(own.state("disconnected", name))


@pytest.mark.parametrize("function", ["disconnected", "unmounted", "mounted"])
def test_r18_nothing_is_written_to_the_successor_of_a_deleted_volume(own, elsewhere, tmp_path, function):
    """As on an array that gives the number of its LUN to another volume.

    The file has another name, and stays.
    """
    (file,) = own.root.glob("volumes/volume-*")
    next_one = file.with_name("next")
    os.link(file, next_one)
    admin(own, "delete", owner="web1")
    assert not file.exists()
    assert fenced_hosts(own) == ["web1"]
    done = own.state(function, **BACK[function])
    assert "what had not been written is lost" in done["comment"], done
    assert fenced_hosts(own) == []
    assert own.flow.consumer.attachments() == ([], [])
    subprocess.run(["mount", "-o", "loop", next_one, tmp_path], check=True)
    found = sorted(os.listdir(tmp_path))
    subprocess.run(["umount", tmp_path], check=True)
    assert found == ["lost+found", "old"]
    # From now on, the name is free.
    ok(own.mounted(fstype="ext4"))


def test_r18_the_administrator_sees_the_fence_of_a_gone_volume_and_removes_it(own, elsewhere):
    service = controller(own)
    assert [(f.what, f.owner, f.name, f.host, f.backend, f.named) for f in service.check().findings(kinds="fenced_host")] == [
        ("fence", "web1", "data", "web1", "local", True)
    ]
    let_go(own, "unmanage")
    (found,) = service.check().findings(kinds="fenced_host")
    assert (found.name, found.host, found.backend) == ("data", "web1", "")
    assert "gone from the catalog" in found.text
    assert service.repair().run(kinds="fenced_host", apply=True) == []
    assert service.repair().run(kinds="fenced_host", remove=found.id)[0]["done"] is False
    assert fenced_hosts(own) == ["web1"]
    assert service.repair().run(kinds="fenced_host", remove=found.id, apply=True)[0]["done"] is True
    assert (fenced_hosts(own), service.check().findings(kinds="fenced_host")) == ([], [])
    ok(own.state("disconnected"))


def test_r18_given_away_the_module_s_disconnect_writes_nothing(given):
    dead, heir = given
    assert dead.module.disconnect("data") is True
    assert fenced_hosts(dead) == []
    assert not_written(heir)


def test_r18_a_new_volume_of_the_name_does_not_hide_it(given):
    dead, heir = given
    ok(dead.state("present", size=1))
    done = dead.state("connected", size=1)
    assert done["result"] is True, done
    assert not mounted_at(dead)
    assert fenced_hosts(dead) == []
    assert dead.flow.consumer.attachment("data").volume_id == controller(dead).catalog.volume("web1", "data").id
    assert not_written(heir)


def test_r18_given_away_and_a_new_one_is_connected_by_the_module(given):
    dead, heir = given
    assert dead.module.connect("data", size=1)["volume_id"] == controller(dead).catalog.volume("web1", "data").id
    assert fenced_hosts(dead) == []
    assert not_written(heir)


def test_r18_renamed_it_goes_under_its_former_name_first(own):
    controller(own).transfers.give(owner="web1", name="data", new_owner="web1", new_name="other")
    done = own.state("connected", "other")
    assert done["result"] is False, done
    assert "still attached here as 'data' of web1" in done["comment"]
    assert fenced_hosts(own) == ["web1"]
    assert own.flow.consumer.attachment("other") is None
    ok(own.state("disconnected"))
    assert fenced_hosts(own) == []
    ok(own.state("mounted", "other", fstype="ext4"))
    assert sorted(os.listdir(own.mount_point)) == ["lost+found", "old"]
    ok(own.state("disconnected", "other"))


def test_r18_another_owner_s_volume_of_the_name_is_left_alone(two):
    """The host was installed anew, has forgotten the shared one, and has its own of that name."""
    dead, _ = two
    ok(dead.state("disconnected", owner="shared"))
    volume = controller(dead).catalog.volume("shared", "data")
    ok(dead.mounted(fstype="ext4"))
    fence(dead, volume)
    with pytest.raises(AlreadyExistsError, match="belongs to web1"):
        dead.module.disconnect("data", owner="shared")
    assert mounted_at(dead)
    assert fenced_hosts(dead) == ["web1"]


def test_r18_a_stale_device_is_not_frozen_grown_or_deleted(own):
    flow = own.flow
    with pytest.raises(FailedPreconditionError, match="it is not frozen"):
        snapshots.take(flow, "cut", "data", freezing=True)
    assert "it is not grown" in own.state("extended", size=2)["comment"]
    assert "it is not deleted" in own.state("absent")["comment"]
    assert controller(own).catalog.snapshots() == []
    assert mounted_at(own)
    ok(own.state("disconnected"))
    ok(own.state("extended", size=2))
    ok(own.mounted(size=2, fstype="ext4"))
    assert sorted(os.listdir(own.mount_point)) == ["lost+found", "old"]


def fence(host, volume):
    what = {"volume_id": volume.id, "attached_id": volume.id, "owner": volume.owner, "volume": volume.name}
    controller(host).catalog.add(Fence(id=new_id(), **what, host="web1"))


def unanswered(self, *args, **given):
    raise UnavailableError("no controller answers")


def not_written(heir, **given):
    """Return whether the new host of the volume sees the written data, and no other."""
    ok(heir.mounted(fstype="ext4", **given))
    return sorted(os.listdir(heir.mount_point)) == ["lost+found", "old"]


def mounted_at(host):
    return host.mount_point in Path("/proc/mounts").read_text()
