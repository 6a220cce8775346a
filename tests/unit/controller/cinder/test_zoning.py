"""Zones of Fibre Channel: Cinder's zone manager and Brocade's driver, over SSH to fabrics with
state.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from saltstorage import errors
from saltstorage.controller.access.config import ControllerConfig
from saltstorage.controller.cinder import bridge, zoning
from tests.fake_fabric import PASSWORD, Fabric, fabrics

from .backends import FILE, new

FIBRE = "tests.unit.controller.cinder.fibre_driver.FibreDriver"
HOST = {"host": "h1", "wwpns": ["1000000000000001", "1000000000000002"]}
OTHER = {"host": "h2", "wwpns": ["1000000000000003"]}
CISCO = "cinder.zonemanager.drivers.cisco.cisco_fc_zone_driver.CiscoFCZoneDriver"


def colons(wwn: str) -> str:
    return ":".join(wwn[i : i + 2] for i in range(0, 16, 2))


@pytest.fixture
def san() -> Iterator[list[Fabric]]:
    """Two fabrics, as they are built: each has one port of the host and one of the array."""
    first = ["5000000000000001", "1000000000000001", "1000000000000003"]
    second = ["5000000000000002", "1000000000000002"]
    with fabrics(*([colons(port) for port in each] for each in (first, second))) as found:
        yield found


@pytest.fixture(autouse=True)
def _off() -> Iterator[None]:
    yield
    zoning.use({})


def configured(san: list[Fabric], **options: Any) -> dict[str, Any]:
    found = {f"san_{number}": fabric.options for number, fabric in enumerate(san)}
    return {"enable_unsupported_driver": True, "fabrics": found, **options}


def members(fabric: Fabric) -> list[list[str]]:
    return sorted(sorted(zone) for zone in fabric.zones.values())


def test_zones_live_as_long_as_a_host_has_volumes(make, san):
    """B9."""
    provider = make(FIBRE, zoning=configured(san))
    first, second = new(), new()
    for volume in (first, second):
        provider.create_volume(volume)
        provider.connect(volume, volume.id, HOST)
    assert members(san[0]) == [[colons("1000000000000001"), colons("5000000000000001")]]
    assert members(san[1]) == [[colons("1000000000000002"), colons("5000000000000002")]]
    provider.connect(first, str(first.id).replace("-", "1")[:36], OTHER)
    assert len(san[0].zones) == 2
    assert len(san[1].zones) == 1, "the other host has no port there"
    provider.disconnect(second, second.id, HOST, last=True)
    assert len(san[1].zones) == 1
    provider.disconnect(first, first.id, HOST, last=False)
    assert members(san[0]) == [[colons("1000000000000003"), colons("5000000000000001")]]
    assert san[1].zones == {}
    provider.disconnect(first, str(first.id).replace("-", "1")[:36], OTHER, last=True)
    assert san[0].zones == {}


def test_without_zoning_no_switch_is_asked(make, san):
    provider = make(FIBRE)
    volume = new()
    provider.create_volume(volume)
    provider.connect(volume, volume.id, HOST)
    provider.disconnect(volume, volume.id, HOST, last=True)
    assert [fabric.config for fabric in san] == ["", ""]


def test_hosts_that_connect_at_once_all_get_their_zones(make, san):
    """Cinder's own zone manager, one object that each call sets up anew, would now and then do
    nothing.
    """
    provider = make(FIBRE, zoning=configured(san))
    hosts = [{"host": f"h{number}", "wwpns": [f"10000000000001{number:02d}"]} for number in range(12)]
    san[0].ports += [colons(host["wwpns"][0]) for host in hosts]
    volumes = [new() for _ in hosts]
    for volume in volumes:
        provider.create_volume(volume)
    threads = [
        threading.Thread(target=provider.connect, args=(volume, volume.id, host)) for volume, host in zip(volumes, hosts, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(san[0].zones) == len(hosts)


def test_a_switch_that_refuses_fails_the_connection_and_keeps_nothing(make, san, rows):
    provider = make(FIBRE, zoning=configured(san))
    volume = new()
    provider.create_volume(volume)
    san[0].broken = "error: Zone DB locked by another user"
    with pytest.raises(errors.UnavailableError, match=r"zones of a Fibre Channel fabric could not.*locked by another user"):
        provider.connect(volume, volume.id, HOST)
    assert rows(volume) == (1, 0)
    provider.connect(volume, volume.id, HOST)
    assert len(san[0].zones) == 1


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        ({"fc_fabric_password": "wrong-password"}, errors.UnavailableError, "fabric"),
        ({"fc_fabric_port": 1}, errors.UnavailableError, "fabric"),
    ],
)
def test_a_switch_that_cannot_be_reached(make, san, options, code, words):
    given = configured(san)
    given["fabrics"]["san_0"] = {**san[0].options, **options}
    provider = make(FIBRE, zoning=given)
    volume = new()
    provider.create_volume(volume)
    with pytest.raises(code, match=words) as caught:
        provider.connect(volume, volume.id, HOST)
    assert PASSWORD not in str(caught.value)
    assert "wrong-password" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"enable_unsupported_driver": False}, "Cinder marks BrcdFCZoneDriver as unsupported"),
        ({"zone_drivr": "x"}, "storage:zoning has no option 'zone_drivr'; known: enable_unsupported_driver"),
        ({"zone_driver": "x.y"}, "is no zone driver; Cinder has cinder.zonemanager"),
        ({"zone_driver": "noDot"}, "is no zone driver"),
        ({"zone_driver": "cinder.volume.drivers.lvm.LVMVolumeDriver"}, "is no zone driver"),
        ({"zone_driver": CISCO}, "has no option 'fc_fabric_address'; known: cisco_fc_fabric_address"),
        ({"fabrics": {"a": {"fc_fabric_address": "192.0.2.1"}}}, "storage:zoning:fabrics:a lacks fc_fabric_user, fc_fabric_password"),
        ({"fabrics": {"a": {"fc_fabric_port": "x"}}}, "storage:zoning:fabrics:a:fc_fabric_port has a wrong value"),
        (
            {"fabrics": {"a": {"fc_fabric_address": "x", "fc_fabric_user": "x", "fc_fabric_password": "x"}}},
            "fc_southbound_protocol must be SSH, HTTP or HTTPS",
        ),
    ],
)
def test_a_wrong_configuration_is_told_by_the_backends_that_need_it(make, san, change, words):
    given = configured(san, **change)
    with pytest.raises(errors.StorageError, match=words) as caught:
        make(FIBRE, zoning=given)
    assert str(caught.value.field).startswith("storage:zoning:")
    assert make(FILE, zoning=given).capabilities(), "files need no zones"


def test_ciscos_driver_takes_its_own_options():
    login = {"cisco_fc_fabric_address": "192.0.2.1", "cisco_fc_fabric_user": "u", "cisco_fc_fabric_password": "p", "cisco_zoning_vsan": "7"}
    bridge.load()
    zoning.use({"zone_driver": CISCO, "fabrics": {"a": login, "b": login}})
    zoning.check("FC")
    from cinder.zonemanager import utils

    made = utils.create_zone_manager()
    assert type(made.driver).__name__ == "CiscoFCZoneDriver"
    assert made.configuration.fc_san_lookup_service.endswith("CiscoFCSanLookupService")
    assert made.driver.fabric_configs["fabric_b"].cisco_zoning_vsan == "7"


def test_the_fault_of_cinders_driver_over_rest_is_still_there():
    """When it goes, so does the refusal of this protocol."""
    bridge.load()
    from cinder.zonemanager.drivers.brocade import brcd_rest_fc_zone_client

    assert "active_zones.keys()\n        active_zone_names.extend" in inspect.getsource(brcd_rest_fc_zone_client)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("fabric", "storage:zoning must be a mapping"),
        ({"zone_driver": "x"}, "storage:zoning:fabrics must be a mapping"),
        ({"fabrics": {}}, "storage:zoning:fabrics must name each fabric"),
        ({"fabrics": {"a": None}}, "storage:zoning:fabrics:a must be a mapping"),
        ({"fabrics": {"a,b": {}}}, "storage:zoning:fabrics:a,b"),
    ],
)
def test_the_form_is_checked_when_the_controller_starts(value, words):
    with pytest.raises(errors.InvalidArgumentError, match=words):
        ControllerConfig.from_opts({"storage": {"backends": {}, "zoning": value}, "root_dir": "/"})
