"""``storage_volume.extended`` and its rows of the table, with real devices and file systems."""

from __future__ import annotations

import os
import subprocess
import threading

import pytest
from cinder import exception

from saltstorage.consumer.connectors import growing
from saltstorage.consumer.consumer import Consumer
from saltstorage.consumer.filesystems import resizefs
from saltstorage.consumer.host import commands
from saltstorage.controller.operations.core import Caller
from saltstorage.errors import UnavailableError
from tests import inprocess, needs
from tests.unit.plans.minion import check_result, ok

FAULTY = "tests.unit.plans.faulty_driver.FaultyDriver"
GIB = 2**30


def device_size(host):
    with open(host.folder / "dev" / "data", "rb") as file:
        return os.lseek(file.fileno(), 0, os.SEEK_END)


def fs_size(host):
    facts = os.statvfs(host.mount_point)
    return facts.f_blocks * facts.f_frsize


def refused(result, code):
    assert result["result"] is False, result
    assert result["changes"] == {}
    assert result["comment"].startswith(f"{code}: "), result


def mounted(host, fstype):
    needs.filesystem(fstype)
    result = host.mounted(fstype=fstype)
    assert result["result"] is True, result


def grow_on_array(host, size):
    """As ``salt-run storage.extend`` does on the master."""
    host.flow.controller.call("extend", {"name": "data", "size": size})


@pytest.mark.parametrize("test", [True, False])
@pytest.mark.parametrize(
    ("given", "field"), [({}, "size"), ({"size": "much"}, "size"), ({"size": 2, "exact": "no"}, "exact"), ({"size": 2, "name": ""}, "name")]
)
def test_x1_bad_input_names_the_field(host, given, field, test):
    result = host.state("extended", test=test, **given)
    refused(result, "INVALID_ARGUMENT")
    assert field in result["comment"]


def test_x2_a_volume_that_is_not_attached(host):
    ok(host.state("present", size=1))
    assert host.state("extended", size=2, test=True)["changes"] == {"size": {"old": 1, "new": 2}}
    assert host.state("extended", size="2 GiB")["changes"] == {"size": {"old": 1, "new": 2}}
    again = host.state("extended", size=2)
    assert (again["result"], again["changes"]) == (True, {}), again


@pytest.mark.root
@pytest.mark.parametrize("fstype", ["xfs", "btrfs", "ext4"])
def test_x2_x6_device_and_file_system_too(host, fstype):
    """X8 where this machine gives root no CAP_SYS_RESOURCE, which ext4 wants to grow mounted."""
    mounted(host, fstype)
    before = fs_size(host)
    if fstype == "ext4" and not resizefs.may_use_resources():
        # The volume did not grow either.
        refused(host.state("extended", size=2), "FAILED_PRECONDITION")
        assert device_size(host) == GIB
        return
    planned = host.state("extended", size=2, test=True)
    assert planned["result"] is None, planned
    assert set(planned["changes"]) == {"size", "filesystem"}
    assert (device_size(host), fs_size(host)) == (GIB, before)
    done = host.state("extended", size=2)
    assert done["result"] is True, done
    assert done["changes"]["size"] == {"old": 1, "new": 2}
    assert set(done["changes"]) == {"size", "filesystem"}
    assert device_size(host) == 2 * GIB
    assert fs_size(host) > before + 0.8 * GIB
    again = host.state("extended", size=2)
    assert (again["result"], again["changes"]) == (True, {}), again
    assert ok(host.mounted(size=2, fstype=fstype))["changes"] == {}


def test_x3_larger_is_left_alone_or_refused(host, hooks):
    ok(host.state("present", size=3))

    def never():
        raise AssertionError("the driver was asked")

    hooks["extend_volume"] = never
    for test in (True, False):
        done = host.state("extended", size=2, test=test)
        assert (done["result"], done["changes"]) == (True, {}), done
        assert "do not shrink" in done["comment"]
        refused(host.state("extended", size=2, exact=True, test=test), "OUT_OF_RANGE")
        ok(host.state("extended", size=3, exact=True, test=test))


@pytest.mark.parametrize("test", [True, False])
def test_x4_unknown(host, test):
    refused(host.state("extended", size=2, test=test), "NOT_FOUND")


@pytest.mark.root
def test_x5_attached_and_the_driver_grows_offline_only(hosts):
    host = hosts(driver="tests.unit.plans.faulty_driver.OfflineDriver")
    ok(host.mounted())
    result = host.state("extended", size=2)
    refused(result, "FAILED_PRECONDITION")
    assert "web1" in result["comment"]
    assert device_size(host) == GIB
    ok(host.state("unmounted"))
    ok(host.state("disconnected"))
    assert host.state("extended", size=2)["changes"]["size"]["new"] == 2


@pytest.mark.root
def test_x7_the_array_grew_and_nothing_here_did(host):
    ok(host.mounted())
    grow_on_array(host, 2)
    assert device_size(host) == GIB
    check_result(host.state("extended", size=2, test=True), None)
    done = host.state("extended", size=2)
    assert done["changes"]["size"] == {"old": 1, "new": 2}
    assert "filesystem" in done["changes"]
    assert fs_size(host) > 1.8 * GIB


@pytest.mark.root
def test_x7_the_device_grew_and_the_file_system_did_not(host):
    ok(host.mounted())
    grow_on_array(host, 2)
    host.flow.consumer.resize("data", size=2)
    done = host.state("extended", size=2)
    assert set(done["changes"]) == {"filesystem"}, done
    assert fs_size(host) > 1.8 * GIB
    assert ok(host.state("extended", size=2))["changes"] == {}


@pytest.mark.root
def test_x7_the_device_part_fails_once(host, monkeypatch):
    ok(host.mounted())
    with monkeypatch.context() as patch:

        def fail(*args, **kwargs):
            raise UnavailableError("the paths are down")

        patch.setattr(Consumer, "resize", fail)
        refused(host.state("extended", size=2), "UNAVAILABLE")
    assert device_size(host) == GIB
    assert host.state("extended", size=2)["changes"]["size"] == {"old": 1, "new": 2}
    assert fs_size(host) > 1.8 * GIB


@pytest.mark.root
def test_x8_a_file_system_that_cannot_grow_is_told_before_the_volume_grows(host):
    mounted(host, "vfat")
    for test in (True, False):
        result = host.state("extended", size=2, test=test)
        refused(result, "FAILED_PRECONDITION")
        assert "vfat" in result["comment"]
    assert host.flow.inventory().volume("web1", "data").size == 1


def test_g8_a_program_that_growing_needs_is_named_before_the_volume_grows(host, monkeypatch):
    ok(host.state("connected", size=1))
    monkeypatch.setattr(growing, "SCSI", ("local",))
    monkeypatch.setattr(commands, "SEARCH", os.path.dirname(host.mount_point))
    for state in ("extended", "connected", "present"):
        for test in (True, False):
            result = host.state(state, size=2, test=test)
            refused(result, "FAILED_PRECONDITION")
            assert "lsscsi is missing; install the package lsscsi" in result["comment"], state
    assert host.flow.inventory().volume("web1", "data").size == 1


@pytest.mark.root
def test_x8_mounts_of_others_grow_and_read_only_mounts_do_not(host):
    ok(host.state("connected", size=1))
    device = os.path.realpath(host.folder / "dev" / "data")
    subprocess.run(["mkfs.xfs", "-q", device], check=True)
    os.mkdir(host.mount_point)
    subprocess.run(["mount", "-o", "ro", device, host.mount_point], check=True)
    assert set(host.state("extended", size=2)["changes"]) == {"size"}
    assert fs_size(host) < GIB
    assert ok(host.state("extended", size=2))["changes"] == {}
    subprocess.run(["mount", "-o", "remount,rw", host.mount_point], check=True)
    assert set(host.state("extended", size=2)["changes"]) == {"filesystem"}
    assert fs_size(host) > 1.8 * GIB


def test_x9_more_than_there_is(host, monkeypatch):
    monkeypatch.setattr("saltstorage.flow.flow.RETRY_DELAYS", ())
    ok(host.state("present", size=1))
    refused(host.state("extended", size="4000 TiB"), "RESOURCE_EXHAUSTED")
    refused(host.state("extended", size="17 PiB"), "INVALID_ARGUMENT")
    assert host.state("extended", size=2)["changes"]["size"]["new"] == 2


@pytest.mark.root
def test_x10_a_failed_extension_leaves_the_volume_usable(hosts, hooks):
    host = hosts(driver=FAULTY)
    ok(host.mounted())

    def fail():
        raise exception.VolumeBackendAPIException(data="half way")

    for when in ("extend_volume", "after extend_volume"):
        hooks[when] = fail
        refused(host.state("extended", size=2), "INTERNAL")
        hooks.clear()
        assert host.flow.inventory().volume("web1", "data").state == "available"
        ok(host.mounted(size=1))
    assert set(host.state("extended", size=2)["changes"]) == {"size", "filesystem"}


def test_x10_an_extension_that_was_cut_off_is_settled(host):
    ok(host.state("present", size=1))
    service = host.context[inprocess.KEY]
    for thread in threading.enumerate():
        if thread.name == "storage-local":
            thread.join(20)  # it settles what it finds, and might find this
    volume = service.catalog.volume("web1", "data")
    service.catalog.update(volume, state="extending", size=2)
    check_result(host.state("extended", size=2, test=True), None)
    assert host.state("extended", size=2)["changes"] == {"size": {"old": 1, "new": 2}}


@pytest.mark.root
def test_a_shared_volume_is_grown_on_the_master_and_follows_here(host):
    host.flow.controller.call("inventory", {})
    service = host.context[inprocess.KEY]
    service.call("create", {"name": "data", "owner": "shared", "size": 1}, Caller())
    ok(host.mounted(owner="shared"))
    refused(host.state("extended", size=2, owner="shared"), "PERMISSION_DENIED")
    service.call("extend", {"name": "data", "owner": "shared", "size": 2}, Caller())
    assert set(host.state("extended", size=2, owner="shared")["changes"]) == {"size", "filesystem"}
    assert fs_size(host) > 1.8 * GIB
    ok(host.state("unmounted", owner="shared"))
