"""B1: which options a driver has."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from saltstorage import errors
from saltstorage.controller.cinder import options, useless

ROOT = Path(__file__).parents[4]


@pytest.mark.slow
def test_b1_each_driver_has_its_options_and_no_others():
    """All that it declares, whatever else is loaded, and the values reach it; in a process of its
    own, which imports all vendors' modules.
    """
    path = os.pathsep.join([str(ROOT / "_utils"), str(ROOT)])
    command = [sys.executable, "-W", "ignore", "-m", "tests.unit.controller.cinder.option_walk"]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == []


def test_b1_an_option_of_another_vendor_is_refused_when_that_is_loaded():
    import cinder.volume.drivers.solidfire  # noqa: F401

    given = {"volume_driver": "cinder.volume.drivers.quobyte.QuobyteDriver", "quobyte_volume_url": "quobyte://h/v", "sf_api_port": 443}
    with pytest.raises(errors.InvalidArgumentError, match=r"salt-run storage\.drivers cinder\.volume\.drivers\.quobyte") as caught:
        options.check("q", given)
    assert caught.value.field == "sf_api_port"


def test_b1_an_option_that_only_the_constructor_registers():
    given = {
        "volume_driver": "cinder.volume.drivers.rsd.RSDDriver",
        "podm_url": "https://192.0.2.1",
        "podm_username": "u",
        "podm_password": "p",
    }
    assert options.check("r", given).__name__ == "RSDDriver"


@pytest.mark.parametrize(
    ("driver", "given", "missing"),
    [
        ("pure.PureISCSIDriver", {}, ["san_ip", "pure_api_token"]),
        ("pure.PureISCSIDriver", {"san_ip": "192.0.2.1", "pure_api_token": "t"}, []),
        ("solidfire.SolidFireDriver", {"san_ip": "192.0.2.1"}, ["san_password"]),
        ("ibm.storwize_svc.storwize_svc_iscsi.StorwizeSVCISCSIDriver", {"san_ip": "192.0.2.1"}, ["san_password", "san_private_key"]),
        ("ibm.storwize_svc.storwize_svc_iscsi.StorwizeSVCISCSIDriver", {"san_ip": "192.0.2.1", "san_private_key": "/k"}, []),
        ("lenovo.lenovo_fc.LenovoFCDriver", {"san_ip": ""}, ["san_ip", "san_password"]),
        ("nfs.NfsDriver", {}, []),
    ],
)
def test_b6_missing_options_are_named_at_once(driver, given, missing):
    """With their help, before the driver is loaded; one of two is enough where that is so."""
    given = {"volume_driver": f"cinder.volume.drivers.{driver}", **given}
    if not missing:
        assert options.check("b", given)
        return
    with pytest.raises(errors.InvalidArgumentError, match="lacks the option") as caught:
        options.check("b", given)
    assert caught.value.field == missing[0]
    assert all(repr(name) in str(caught.value) for name in missing)


@pytest.mark.parametrize("name", useless.OPTIONS)
def test_an_option_that_would_do_nothing_is_refused_with_the_reason(name, tmp_path):
    given = {"volume_driver": "saltstorage.drivers.file.FileDriver", "file_driver_path": str(tmp_path), name: "x"}
    with pytest.raises(errors.InvalidArgumentError, match=f"the option {name!r}, which does nothing here: .*; remove it") as caught:
        options.check("f", given)
    assert caught.value.field == name


def test_the_list_of_those_has_names_that_cinder_knows():
    import cinder

    files = [path for path in Path(cinder.__file__).parent.rglob("*.py") if "tests" not in path.parts]
    text = "".join(path.read_text(encoding="utf-8") for path in files)
    assert [name for name in useless.OPTIONS if not re.search(rf"Opt\(\s*['\"]{name}['\"]", text)] == []
