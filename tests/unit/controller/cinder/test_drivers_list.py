"""The list of Cinder's drivers, through Cinder's own registry."""

from __future__ import annotations

import importlib.metadata

import pytest

from saltstorage.controller.cinder.drivers_list import list_drivers
from saltstorage.controller.cinder.packages import find_missing


@pytest.fixture(scope="module")
def drivers():
    return {driver["class"]: driver for driver in list_drivers()}


@pytest.mark.slow
def test_all_drivers_are_there(drivers):
    """The number of Cinder's registry without two base classes, and the project's own three."""
    assert importlib.metadata.version("cinder").split(".")[0] == "29"
    assert len(drivers) == 103 - 2 + 3
    assert [path for path, driver in drivers.items() if driver["error"]] == []
    assert len({driver["protocol"] for driver in drivers.values()}) > 4


@pytest.mark.slow
def test_options_are_described(drivers):
    lvm = drivers["cinder.volume.drivers.lvm.LVMVolumeDriver"]
    options = {option["name"]: option for option in lvm["options"]}
    assert options["volume_group"]["default"] == "cinder-volumes"
    assert options["lvm_type"]["choices"] == ["default", "thin", "auto"]
    assert options["lvm_mirrors"]["type"] == "integer value"
    assert options["volume_group"]["help"]
    secrets = [option["name"] for driver in drivers.values() for option in driver["options"] if option["secret"]]
    assert "san_password" in secrets


@pytest.mark.slow
@pytest.mark.parametrize(
    ("part", "names"),
    [
        ("netapp.dataontap.iscsi", {"netapp_login", "netapp_password", "netapp_server_hostname", "netapp_vserver"}),
        ("unity", {"san_ip", "san_login", "san_password", "unity_storage_pool_names"}),
        ("hedvig", {"san_ip", "san_login", "san_password", "san_clustername"}),
        ("spdk.SPDKDriver", {"spdk_rpc_ip", "spdk_rpc_username"}),
        ("datera", {"san_ip", "datera_tenant_id"}),
        ("cinder.volume.drivers.rbd.", {"rbd_pool", "rbd_keyring_conf"}),
    ],
)
def test_options_that_a_driver_reads_are_listed(drivers, part, names):
    """Declared or not; and none of those that only Cinder's services read."""
    found = [{option["name"] for option in driver["options"]} for path, driver in drivers.items() if part in path]
    assert found
    assert all(names <= options for options in found)
    assert not any({"backup_use_temp_snapshot", "volume_backend_name"} & options for options in found)


@pytest.mark.slow
def test_a_part_of_the_class_path_and_the_brief_form():
    found = list_drivers("FileDriver", options=False)
    assert [driver["class"] for driver in found] == ["saltstorage.drivers.file.FileDriver"]
    assert "options" not in found[0]
    assert list_drivers("no driver has this name") == []


def test_a_driver_whose_import_fails_is_listed(tmp_path, monkeypatch):
    """With the reason; the others are there."""
    from saltstorage.controller.cinder import drivers_list

    modules = [
        ("tests.unit.controller.cinder.needy_driver", ["NeedyDriver"]),
        ("tests.unit.controller.cinder.lazy_driver", ["LazyDriver", "Gone"]),
    ]
    monkeypatch.setattr(drivers_list, "_find_modules", lambda: modules)
    found = {driver["name"]: driver for driver in drivers_list._collect("")}
    assert found["NeedyDriver"]["missing"] == ["storage_no_such_vendor_sdk"]
    assert "storage_no_such_vendor_sdk" in found["NeedyDriver"]["error"]
    assert found["LazyDriver"]["missing"] == ["storage_no_such_vendor_library"]
    assert found["LazyDriver"]["error"] == ""
    assert found["Gone"]["error"]


def test_missing_modules_of_a_driver_that_lacks_nothing():
    from saltstorage.drivers.file import FileDriver

    assert find_missing(FileDriver) == []
