"""``storage_volume.absent`` of a volume that must stay: refused before anything changes.

It may be in use, protected or retained, or have snapshots.
"""

from __future__ import annotations

import subprocess

import pytest

from saltstorage.controller.operations.core import Caller
from saltstorage.errors import UnavailableError
from tests.unit.plans.minion import ok

pytestmark = pytest.mark.root


def files(host):
    return sorted(path.name for path in (host.root / "volumes").iterdir())


def refused(host, code, word, **given):
    for test in (True, False):
        ret = host.state("absent", test=test, **given)
        assert (ret["result"], ret["changes"]) == (False, {}), ret
        assert ret["comment"].startswith(code), ret
        assert word in ret["comment"], ret


def settled(host, function="absent", **given):
    for test in (True, False):
        ret = host.state(function, test=test, **given)
        assert (ret["result"], ret["changes"]) == (True, {}), ret


def is_mounted(host):
    with open("/proc/mounts") as file:
        return any(line.split()[1] == host.mount_point for line in file)


def test_d9_d11_a_protected_volume_stays_mounted(host):
    host.mounted(protected=True)
    refused(host, "FAILED_PRECONDITION: volume 'data' is protected", "protected: False", disconnect=True)
    refused(host, "FAILED_PRECONDITION: volume 'data' is protected", "protected: False", disconnect=True, retain=True)
    assert is_mounted(host)
    settled(host, "mounted", size=1)


def test_d11_a_volume_in_use_keeps_mount_and_snapshots(shared_blocks, hosts):
    host = hosts(volumes=shared_blocks)
    host.mounted()
    ok(host.state("snapshot_rotated", "data", keep=2))
    with open(f"{host.mount_point}/open", "w"):
        refused(host, "FAILED_PRECONDITION", "in use", disconnect=True, series="data")
    assert is_mounted(host)
    assert len(host.service.catalog.snapshots()) == 1
    dry = host.state("absent", disconnect=True, series="data", test=True)
    ret = host.state("absent", disconnect=True, series="data")
    assert (dry["result"], ret["result"]) == (None, True), ret
    assert {"path", "data"} <= dry["changes"].keys() <= ret["changes"].keys()
    assert len(ret["changes"]) == 4, "mount, path, the snapshot, the volume"
    assert (host.service.catalog.snapshots(), host.service.catalog.volumes()) == ([], [])
    settled(host, disconnect=True, series="data")


def test_d5_d11_snapshots_that_others_took_are_kept_with_everything_else(shared_blocks, hosts):
    host = hosts(volumes=shared_blocks)
    host.mounted()
    host.state("snapshot_rotated", "data", keep=2)
    host.state("snapshot_present", "by-hand")
    refused(host, "FAILED_PRECONDITION", "'by-hand'", disconnect=True, series="data")
    assert is_mounted(host)
    assert len(host.service.catalog.snapshots()) == 2


def test_d4_d11_without_disconnect_a_connected_volume_is_refused(host):
    host.state("connected", size=1)
    refused(host, "FAILED_PRECONDITION: volume 'data' is connected to web1", "disconnected")
    dry = host.state("absent", disconnect=True, test=True)
    assert (dry["result"], list(dry["changes"])) == (None, ["path", "data"]), dry
    settled(host, "connected", size=1)
    assert host.state("absent", disconnect=True)["changes"].keys() == {"path", "data"}


def test_u4_a_device_of_a_volume_that_is_gone_is_detached(host):
    host.state("connected", size=1)
    catalog = host.service.catalog
    for record in (*catalog.connections(), *catalog.volumes()):
        catalog.remove(record)
    refused(host, "FAILED_PRECONDITION", "still attached")
    ret = host.state("absent", disconnect=True)
    assert (ret["result"], list(ret["changes"])) == (True, ["path"]), ret
    settled(host, disconnect=True)


@pytest.mark.parametrize("recorded", [False, True], ids=["asked for", "recorded"])
def test_d10_a_retained_volume(host, recorded):
    host.mounted(**({"retain": True} if recorded else {}))
    with open(f"{host.mount_point}/file", "w") as file:
        file.write("precious")
    given = {"disconnect": True, **({} if recorded else {"retain": True})}
    dry = host.state("absent", test=True, **given)
    assert (dry["result"], dry["changes"]["retained"]) == (None, {"old": None, "new": {"backend": "local"}}), dry
    assert "let go of; its data would stay on backend 'local'" in dry["comment"]
    assert is_mounted(host)
    ret = host.state("absent", **given)
    assert ret["result"] is True, ret
    kept = ret["changes"]["retained"]["new"]
    assert files(host) == [kept["array_name"]]
    assert ret["changes"]["data"]["new"] is None
    assert kept["array_name"] in ret["comment"]
    assert ret["comment"].endswith(kept["take_over"])
    settled(host, **given)
    # It comes back with its file system.
    host.service.adoption.manage(name="data", owner="web1", reference=kept["array_name"])
    ok(host.mounted(fstype=None))
    with open(f"{host.mount_point}/file") as file:
        assert file.read() == "precious"
    subprocess.run(["umount", host.mount_point], check=True)


def test_d10_retain_is_an_attribute_and_can_be_overruled(host):
    for value in (True, False):
        ret = host.state("present", size=1, retain=value)
        assert (ret["changes"]["data"]["new"].get("retain") if value else ret["changes"]["retain"]) == (
            True if value else {"old": True, "new": False}
        )
        settled(host, "present", size=1, retain=value)
    host.state("present", size=1, retain=True)
    assert host.state("absent", retain=False)["changes"].keys() == {"data"}
    assert files(host) == []


def test_g6_d10_a_backend_that_cannot_let_go_is_refused_before_anything_changes(host):
    host.mounted()
    catalog = host.service.catalog
    catalog.set_backend_state("local", "up", capabilities=["extend"])
    refused(host, "UNIMPLEMENTED: backend 'local' cannot let go", "without deleting", disconnect=True, retain=True)
    assert is_mounted(host)


def test_d10_a_minion_with_a_quota_is_refused_before_anything_changes(host):
    host.opts["storage"]["policy"] = {"*": {"max_gib": 10}}
    host.mounted(retain=True)
    refused(host, "PERMISSION_DENIED: the policy limits", "salt-run storage.delete", disconnect=True)
    assert is_mounted(host)
    host.service.call("update", {"name": "data", "owner": "web1", "retain": False}, Caller())
    ok(host.state("absent", disconnect=True))


@pytest.mark.parametrize("given", [{"retain": "yes"}, {"disconnect": "no"}, {"series": "a/b"}, {"series": "n" * 128}])
def test_d1_wrong_parameters(host, given):
    host.mounted()
    refused(host, "INVALID_ARGUMENT", next(iter(given)) if "series" not in given else "name", **given)


def test_a_failed_deletion_names_the_steps_that_were_done(host, monkeypatch):
    """The state shows no changes when it fails, so its comment does."""

    def fail(*args):
        raise UnavailableError("the array does not answer")

    host.state("connected", size=1)
    with monkeypatch.context() as patch:
        patch.setattr(type(host.service.core.provider("local")), "delete_volume", fail)
        ret = host.state("absent", disconnect=True)
    assert ret["result"] is False, ret
    assert ret["comment"].startswith("UNAVAILABLE: Volume 'data' was disconnected. the array does not answer")
    ok(host.state("absent", disconnect=True))
