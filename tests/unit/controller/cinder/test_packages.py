"""B6: what a driver imports, and what to install where that is missing."""

from __future__ import annotations

import importlib.metadata
import re
import sys

import pytest

from saltstorage import errors
from saltstorage.controller.cinder import bridge, packages
from saltstorage.controller.cinder.errors import translate

#: Extras of Cinder that are for its other services, or whose package the lock has.
OTHER = {"boto3", "google-api-python-client", "psutil", "python-swiftclient"}
#: Packages that Cinder's extras leave out, or that its drivers use through os-brick alone.
NO_IMPORT = {"storpool", "storpool.spopenstack"}


def test_b6_the_table_has_the_packages_of_cinders_extras():
    extras = {re.split(r"[<>=]", line)[0] for line in importlib.metadata.requires("cinder") if "extra ==" in line}
    assert set(packages.PYPI.values()) - {"pyxcli"} == extras - OTHER - NO_IMPORT
    for package in set(packages.PYPI.values()) - {"pyxcli"}:
        assert re.fullmatch(rf"{re.escape(package)}>=[\d.]+", packages.requirement(package))


@pytest.mark.parametrize(
    ("path", "modules"),
    [
        ("pure.PureISCSIDriver", ["pypureclient"]),
        ("infinidat.InfiniboxVolumeDriver", ["capacity", "infi", "infinisdk"]),
        ("fujitsu.eternus_dx.eternus_dx_fc.FJDXFCDriver", ["pywbem"]),
        ("rsd.RSDDriver", ["rsd_lib", "sushy"]),
        ("hpe.alletramp_driver.HPEAlletraMPFCDriver", ["hpe_storage_flowkit_py"]),
        ("rbd.RBDDriver", ["rados", "rbd"]),
        ("ceph.rbd_iscsi.RBDISCSIDriver", ["rados", "rbd", "rbd_iscsi_client"]),
        ("hpe.nimble.NimbleISCSIDriver", []),
        ("dell_emc.xtremio.XtremIOISCSIDriver", []),
        ("lvm.LVMVolumeDriver", []),
    ],
)
def test_b6_missing_packages_of_a_driver(path, modules):
    """Its own, in whatever form it imports them, and not those of its neighbours."""
    module_name, _, name = f"cinder.volume.drivers.{path}".rpartition(".")
    driver = getattr(bridge.import_driver_module(module_name), name)
    assert packages.find_missing(driver) == [module for module in modules if not packages.is_installed(module)]


def test_b6_what_to_install():
    advice = packages.advise(["pypureclient", "rados", "rbd"])
    assert "python3-rados and python3-rbd" in advice
    assert "python_path" in advice
    assert f"{sys.executable} -m pip install 'py-pure-client>=" in advice


def test_b6_an_unfit_version_is_not_a_missing_package():
    """A package that lacks a submodule is there; the error of one that is not says what to do."""
    with pytest.raises(ImportError) as unfit:
        import json.no_such_submodule  # noqa: F401
    assert "installed version of the Python package 'json' does not fit" in str(translate(unfit.value, "load"))
    with pytest.raises(ImportError) as missing:
        import storage_no_such_vendor_sdk  # noqa: F401
    error = translate(missing.value, "load")
    assert isinstance(error, errors.FailedPreconditionError)
    assert "'storage_no_such_vendor_sdk' is not installed" in str(error)
    assert "pip install" not in str(error)
