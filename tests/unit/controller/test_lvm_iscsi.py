"""The LVM driver with the project's targets, as far as no device mapper is needed; the rest is in the lab."""

from __future__ import annotations

from pathlib import Path

import pytest

from saltstorage.controller.providers import cinder_options
from saltstorage.errors import InvalidArgumentError

OPTIONS = {
    "volume_driver": "saltstorage.controller.drivers.lvm_iscsi.LVMISCSIDriver",
    "volume_group": "storage",
    "lvm_type": "thin",
    "target_helper": "lioadm",
    "target_ip_address": "192.0.2.10",
}


def test_cinders_options_are_known():
    driver = cinder_options.check("lvm", OPTIONS)
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
def test_what_it_cannot_do_is_refused(change, field):
    options = {key: value for key, value in {**OPTIONS, **change}.items() if value is not None}
    with pytest.raises(InvalidArgumentError) as caught:
        cinder_options.check("lvm", options)
    assert caught.value.field == field
    assert "geheim" not in str(caught.value)


def test_cinders_driver_loads_the_projects_target_helper():
    """By the mapping that Cinder's base class sets, which must not win."""
    from cinder.volume import driver

    from saltstorage.controller.drivers import lvm_iscsi

    made = lvm_iscsi.LVMISCSIDriver.__new__(lvm_iscsi.LVMISCSIDriver)
    made.target_mapping = {"lioadm": "cinder.volume.targets.lio.LioAdm"}
    assert made.target_mapping == {"lioadm": "saltstorage.controller.drivers.lio.LioTarget"}
    assert "self.target_mapping = {" in Path(driver.__file__).read_text()


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

    from saltstorage.controller.drivers import lio, lvm_iscsi

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
