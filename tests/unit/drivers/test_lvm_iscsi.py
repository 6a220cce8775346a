"""The LVM driver with the project's targets, as far as no device mapper is needed; the rest is in
the lab.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from saltstorage.controller.cinder import options
from saltstorage.errors import InvalidArgumentError

OPTIONS = {
    "volume_driver": "saltstorage.drivers.lvm_iscsi.LVMISCSIDriver",
    "volume_group": "storage",
    "lvm_type": "thin",
    "target_helper": "lioadm",
    "target_ip_address": "192.0.2.10",
}


def test_cinders_options_are_known():
    driver = options.check("lvm", OPTIONS)
    assert {"volume_group", "lvm_type", "target_ip_address"} <= {option.dest for option in driver.get_driver_options()}


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"target_helper": "tgtadm"}, "target_helper"),
        ({"target_helper": None}, "target_helper"),
        ({"target_ip_address": None}, "target_ip_address"),
        ({"target_protocol": "nvmet_tcp"}, "target_protocol"),
        ({"chap_password": "geheim"}, "chap_password"),
    ],
)
def test_a_senseless_option_is_refused(change, field):
    given = {key: value for key, value in {**OPTIONS, **change}.items() if value is not None}
    with pytest.raises(InvalidArgumentError) as caught:
        options.check("lvm", given)
    assert caught.value.field == field
    assert "geheim" not in str(caught.value)


def test_cinders_driver_loads_the_projects_target_helper():
    """Cinder's base class sets a mapping of its own, which must not win."""
    from cinder.volume import driver

    from saltstorage.drivers import lvm_iscsi

    made = lvm_iscsi.LVMISCSIDriver.__new__(lvm_iscsi.LVMISCSIDriver)
    made.target_mapping = {"lioadm": "cinder.volume.targets.lio.LioAdm"}
    assert made.target_mapping == {"lioadm": "saltstorage.drivers.targets.lio.LioTarget"}
    assert "self.target_mapping = {" in Path(driver.__file__).read_text()


class Group:
    """A volume group that answers one command, and whose volumes may have gone by then: anything
    else is an AttributeError.
    """

    LVM_CMD_PREFIX = ("env", "LC_ALL=C")
    vg_name = "storage"

    def get_volume(self, name):
        return {"name": name, "size": "1.50"}

    def _run_lvm_command(self, command):
        assert command[:3] == ["env", "LC_ALL=C", "lvs"]
        assert command[-1] == "storage"
        # As LVM 2.03 says it.
        return (
            "  data|1.00|-wi-a-----|\n"
            "  storage-pool|19.00|twi-a-tz--|\n"
            "  volume-5f0c1b1e-0a5e-4b0b-9d4e-2f9c3a1d7b10|2.50|Vwi-aotz--|volume-x\n"
            "  _snapshot-6f0c1b1e-0a5e-4b0b-9d4e-2f9c3a1d7b10|1.00|swi-a-s---|data\n"
            "  _snapshot-7f0c1b1e-0a5e-4b0b-9d4e-2f9c3a1d7b10|1.00|Vwi---tz-k|thin\n"
            "  copy-of-thin|1.00|Vwi-a-tz--|thin\n"
            "  used|1.00|-wi-ao----|\n",
            "",
        )


def test_a_list_is_of_one_moment():
    """A volume that another caller deletes meanwhile is no error: one command knows everything."""
    from saltstorage.controller.cinder import lvm

    driver = lvm.LVMVolumeDriver.__new__(lvm.LVMVolumeDriver)
    driver.vg = group = Group()
    known = {"id": "5f0c1b1e-0a5e-4b0b-9d4e-2f9c3a1d7b10"}
    found = driver.get_manageable_volumes([known], None, 100, 0, ["size"], ["asc"])
    assert {entry["reference"]["source-name"]: (entry["size"], entry["reason_not_safe"]) for entry in found} == {
        "data": (1, None),
        "storage-pool": (19, "volume in use"),
        "volume-5f0c1b1e-0a5e-4b0b-9d4e-2f9c3a1d7b10": (3, "already managed"),
        "copy-of-thin": (1, None),
        "used": (1, "volume in use"),
    }
    snapshots = driver.get_manageable_snapshots([], None, 100, 0, ["size"], ["asc"])
    assert {entry["reference"]["source-name"]: (entry["source_reference"], entry["safe_to_manage"]) for entry in snapshots} == {
        "_snapshot-6f0c1b1e-0a5e-4b0b-9d4e-2f9c3a1d7b10": ({"source-name": "data"}, True),
        "_snapshot-7f0c1b1e-0a5e-4b0b-9d4e-2f9c3a1d7b10": ({"source-name": "thin"}, True),
    }
    assert driver.vg is group


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("storage-pool", "pool"),
        ("_snapshot-6f0c1b1e-0a5e-4b0b-9d4e-2f9c3a1d7b10", "snapshot"),
        ("_snapshot-7f0c1b1e-0a5e-4b0b-9d4e-2f9c3a1d7b10", "snapshot"),
        ("data", ""),
        ("copy-of-thin", ""),
    ],
)
def test_a_volume_that_must_keep_its_name_is_not_taken_over(name, reason):
    """A take-over renames: the pool would be lost to every thin volume, and a snapshot to the
    system that knows it.
    """
    from cinder import exception

    from saltstorage.controller.cinder import lvm

    driver = lvm.LVMVolumeDriver.__new__(lvm.LVMVolumeDriver)
    driver.vg = Group()
    if not reason:
        assert driver.manage_existing_get_size(None, {"source-name": name}) == 2
        return
    with pytest.raises(exception.ManageExistingInvalidReference, match=reason):
        driver.manage_existing_get_size(None, {"source-name": name})


@pytest.mark.parametrize(
    ("name", "taken"),
    [
        ("iqn.1993-08.org.debian:01:abcdef", True),
        ("iqn.1994-05.com.redhat:1", True),
        ("eui.0123456789abcdef", True),
        ("iqn.2024-01.lab:db1", False),
        ("iqn.2024-01.org.example:my_host", False),
    ],
)
def test_an_initiator_name_that_the_kernels_helper_refuses_is_refused_before_anything_is_mapped(name, taken):
    from cinder import exception
    from rtslib_fb.utils import RTSLibError, normalize_wwn

    from saltstorage.drivers import lvm_iscsi
    from saltstorage.drivers.targets import lio

    made = lvm_iscsi.LVMISCSIDriver.__new__(lvm_iscsi.LVMISCSIDriver)
    made.target_driver = lio.LioTarget.__new__(lio.LioTarget)
    if taken:
        normalize_wwn(["iqn", "naa", "eui"], name)
        made.validate_connector({"initiator": name})
        return
    with pytest.raises(RTSLibError):
        normalize_wwn(["iqn", "naa", "eui"], name)
    with pytest.raises(exception.InvalidInput, match="two parts"):
        made.validate_connector({"initiator": name})
