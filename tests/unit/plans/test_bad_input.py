"""A missing name, size or mount point, or a thing that cannot be asked for: refused at once."""

from __future__ import annotations

import pytest

from tests.unit.plans.minion import ok

BOTH = pytest.mark.parametrize("test", [True, False])
NAMES = pytest.mark.parametrize("name", ["", None])


def refused(result, field):
    assert (result["result"], result["changes"]) == (False, {}), result
    assert result["comment"].startswith("INVALID_ARGUMENT: "), result
    assert field in result["comment"], result


def volumes(host):
    """The names of the volumes in the catalog; none without a controller."""
    return [volume.name for volume in host.service.catalog.volumes()]


@BOTH
@NAMES
def test_p1_present_without_a_name_never_means_the_only_volume(host, name, test):
    refused(host.state("present", name, size=1, test=test), "name")
    assert volumes(host) == []
    ok(host.state("present", size=1))
    refused(host.state("present", name, size=2, test=test), "name")
    assert [volume.size for volume in host.service.catalog.volumes()] == [1]


@BOTH
def test_p1_present_without_a_size(host, test):
    refused(host.state("present", size=None, test=test), "size")
    assert volumes(host) == []


@BOTH
@NAMES
def test_d1_absent_without_a_name_never_means_the_only_volume(host, name, test):
    ok(host.state("present", size=1))
    refused(host.state("absent", name, test=test), "name")
    assert volumes(host) == ["data"]


@BOTH
@NAMES
@pytest.mark.parametrize("function", ["connected", "mounted"])
def test_c1_connected_without_a_name(host, function, name, test):
    refused(host.state(function, name, size=1, test=test), "name")
    assert host.flow.consumer.attachments() == ([], [])
    assert volumes(host) == []


@BOTH
@pytest.mark.parametrize("mount", [None, "", "srv", 7])
def test_c1_mounted_without_a_mount_point(host, mount, test):
    refused(host.mounted(mount=mount, test=test), "mount")
    assert host.flow.consumer.attachments() == ([], [])
    assert volumes(host) == []


@pytest.mark.root
@BOTH
@NAMES
@pytest.mark.parametrize("function", ["disconnected", "unmounted"])
def test_u1_disconnected_without_a_name_never_means_the_only_volume(host, function, name, test):
    ok(host.state("connected", size=1))
    refused(host.state(function, name, test=test), "name")
    assert host.flow.consumer.check("data").ok


@BOTH
@pytest.mark.parametrize("function", ["snapshot_present", "snapshot_rotated"])
@pytest.mark.parametrize("wanted", [["data", "logs"], {"data": {}, "logs": {}}, "data,logs/"])
def test_n11_several_volumes_at_one_moment(host, function, wanted, test):
    for name in ("data", "logs"):
        ok(host.state("present", name, size=1))
    refused(host.state(function, "cut", volume=wanted, test=test), "volume")
    assert list(host.service.catalog.snapshots()) == []


def test_n10_there_are_no_groups(host):
    """A group is an unknown parameter of each of the state's functions."""
    ok(host.state("present", size=1))
    for function in ("snapshot_present", "snapshot_rotated", "snapshot_absent"):
        refused(host.state(function, "cut", group="nightly"), "group")
    assert list(host.service.catalog.snapshots()) == []
