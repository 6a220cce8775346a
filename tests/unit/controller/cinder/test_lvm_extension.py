"""Extensions of LVM volumes that are interrupted or fail half-way: Cinder's code over a simulated
volume group.

There is no device mapper here: the lab has the real one.
"""

from __future__ import annotations

import importlib

import pytest
from oslo_concurrency import processutils

from saltstorage import model
from saltstorage.controller.cinder import provider
from saltstorage.errors import StorageError

STOCK = "cinder.volume.drivers.lvm.LVMVolumeDriver"
DRIVERS = [STOCK, "saltstorage.drivers.lvm_iscsi.LVMISCSIDriver"]


class Killed(BaseException):
    """Stands for a killed controller: nothing catches it."""


class SimulatedGroup:
    """A simulated volume group: answers as ``lvs``, ``lvextend`` and ``lvchange`` do, for one
    logical volume.

    :param extent: size of an extent, GiB; sizes are rounded up to it.
    """

    def __init__(self, name: str, size: int, *, extent: int = 1) -> None:
        self.name = name
        self.extent = extent
        self.size = self._rounded(size)
        self.active = True
        self.calls: list[str] = []
        self.killed = False

    def _rounded(self, size: int) -> int:
        return -(-size // self.extent) * self.extent

    def get_volume(self, name: str) -> dict[str, str] | None:
        return {"vg": "storage", "name": name, "size": f"{self.size}.00"} if name == self.name else None

    def extend_volume(self, name: str, size: str) -> None:
        self.calls.append(f"lvextend {size}")
        wanted = self._rounded(int(size.removesuffix("g")))
        if name != self.name or wanted <= self.size:
            raise processutils.ProcessExecutionError(exit_code=5, cmd=["lvextend", "-L", size], stderr="New size matches existing size.")
        # As with a snapshot.
        self.active, self.size = False, wanted
        if self.killed:
            raise Killed
        self.active = True

    def activate_lv(self, name: str) -> None:
        assert name == self.name
        self.active = True


class Target:
    """A target helper that fails when told."""

    def __init__(self, group: SimulatedGroup) -> None:
        self.group = group
        self.fails = False
        self.shown = group.size

    def extend_target(self, volume: object) -> None:
        self.group.calls.append("extend_target")
        assert self.group.active
        if self.fails:
            raise RuntimeError("the target is busy")
        self.shown = self.group.size


@pytest.fixture(params=DRIVERS)
def extending(request, service, monkeypatch):
    """A function that makes a volume on a simulated group, which the driver extends; returns the
    group and the target.
    """

    def make(**given):
        volume = service.execute("create", {"name": "data", "size": 1}, "web1")["volume"]
        group = SimulatedGroup(f"volume-{volume['id']}", 1, **given)
        target = Target(group)
        module, _, name = provider.REPLACED.get(request.param, request.param).rpartition(".")
        cls = getattr(importlib.import_module(module), name)
        driver = cls.__new__(cls)
        driver.vg, driver.target_driver = group, target
        monkeypatch.setattr(service.core.provider("local").driver, "extend_volume", driver.extend_volume)
        return group, target

    return make


def grow(service, size=2):
    return service.execute("create", {"name": "data", "size": size}, "web1")["volume"]["size"]


def test_x10_an_extension_that_the_target_did_not_follow_is_finished(service, extending):
    group, target = extending()
    target.fails = True
    for _ in range(2):
        with pytest.raises(StorageError):
            grow(service)
        volume = service.catalog.volume("web1", "data")
        assert (volume.size, volume.state) == (1, model.AVAILABLE), "usable as it was"
    target.fails = False
    assert grow(service) == 2
    assert (group.size, target.shown) == (2, 2)
    assert group.calls == ["lvextend 2g", "extend_target", "extend_target", "extend_target"]
    assert grow(service, 3) == 3
    assert (group.size, target.shown, group.calls[4:]) == (3, 3, ["lvextend 3g", "extend_target"])


def test_x10_an_extension_is_finished_after_the_controller_was_killed(service, extending):
    """Between ``lvextend`` and the next step; also when the volume is grown further at once."""
    for size in (2, 4):
        group, target = extending()
        group.killed = True
        with pytest.raises(Killed):
            grow(service)
        assert service.catalog.volume("web1", "data").state == model.EXTENDING
        group.killed = False
        assert grow(service, size) == size
        assert (group.size, target.shown, group.active) == (size, size, True)
        service.execute("delete", {"name": "data"}, "web1")


def test_an_extent_that_has_the_size_already_is_no_error(service, extending):
    group, target = extending(extent=4)
    assert grow(service, 2) == 2
    assert (group.size, target.shown, group.calls) == (4, 4, ["extend_target"])


def test_a_missing_volume_does_not_count_as_extended(service, extending):
    group, _ = extending()
    group.name = "another"
    with pytest.raises(StorageError, match="exit code 5"):
        grow(service)


def test_cinders_own_class_is_replaced(service):
    module, _, name = provider.REPLACED[STOCK].rpartition(".")
    stock_module, _, stock = STOCK.rpartition(".")
    assert issubclass(getattr(importlib.import_module(module), name), getattr(importlib.import_module(stock_module), stock))
