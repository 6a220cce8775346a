"""The abilities of a Cinder driver whose methods alone would promise too much."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from saltstorage.controller.cinder import stats
from saltstorage.providers import Capability


class LVM:
    """Stands for Cinder's LVM driver, which needs all of Cinder; the lab runs the conformance
    suite with it.
    """

    __module__ = "cinder.volume.drivers.lvm"

    create_snapshot = create_volume_from_snapshot = revert_to_snapshot = lambda self: None


class Ours(LVM):
    """As the project's LVM driver is made of Cinder's."""


@pytest.mark.parametrize(("kind", "reverts"), [("default", True), ("thin", False)])
def test_thin_logical_volumes_cannot_be_set_back(kind, reverts):
    """Cinder's driver has the method, and raises NotImplementedError."""
    driver = Ours()
    driver.configuration = SimpleNamespace(lvm_type=kind)
    found = stats.capabilities(driver, {})
    assert Capability.SNAPSHOT in found
    assert (Capability.REVERT in found) is reverts
