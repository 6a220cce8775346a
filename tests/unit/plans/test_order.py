"""The order in which the controller and the host work, and the rest when one of the two cannot."""

from __future__ import annotations

import os
import subprocess

import pytest
from cinder import exception

from saltstorage import model
from saltstorage.consumer.connectors.brick import Brick
from saltstorage.controller.service import Service
from tests.unit.plans.minion import ok

pytestmark = pytest.mark.root


@pytest.fixture
def steps(monkeypatch):
    """The steps that change something, on either side, in their order."""
    seen = []

    def watch(cls, name, say):
        original = getattr(cls, name)

        def watched(self, *args, **kwargs):
            step = say(*args)
            if step:
                seen.append(step)
            return original(self, *args, **kwargs)

        monkeypatch.setattr(cls, name, watched)

    watch(Service, "call", lambda op, args, caller: {"connect": "map", "disconnect": "unmap"}.get(op))
    watch(Brick, "connect", lambda *args: "attach")
    watch(Brick, "disconnect", lambda *args: "detach")
    return seen


def test_c8_mapped_then_attached_and_detached_then_unmapped(host, steps):
    ok(host.state("connected", size=1))
    assert steps == ["map", "attach"]
    steps.clear()
    ok(host.state("disconnected"))
    assert steps == ["detach", "unmap"]


def test_c8_nothing_is_attached_that_is_not_mapped(hosts, hooks, steps):
    """The controller fails. A record from before the mapping is not attached, nor at a boot."""
    host = hosts(driver="tests.unit.plans.faulty_driver.FaultyDriver")

    def refuse():
        raise exception.VolumeBackendAPIException(data="the array said no")

    hooks["initialize_connection"] = refuse
    done = host.state("connected", size=1)
    assert (done["result"], done["changes"]) == (False, {}), done
    assert steps == ["map"]
    host.flow.consumer.intend("web1", "data")
    assert [found.state for found in host.flow.consumer.reattach()] == ["skipped"]
    assert steps == ["map"]
    hooks.clear()
    ok(host.state("connected"))


def test_c7_the_backend_maps_no_more(hosts, hooks, steps, monkeypatch):
    monkeypatch.setattr("saltstorage.flow.flow.RETRY_DELAYS", ())
    host = hosts(driver="tests.unit.plans.faulty_driver.FaultyDriver")
    ok(host.state("present", size=1))

    def full():
        raise exception.VolumeLimitExceeded(name="mappings", allowed=0)

    hooks["initialize_connection"] = full
    done = host.state("connected")
    assert (done["result"], done["changes"]) == (False, {}), done
    assert done["comment"].startswith("RESOURCE_EXHAUSTED: "), done
    assert host.service.catalog.connections() == []
    assert host.flow.consumer.attachments() == ([], [])
    assert "attach" not in steps
    hooks.clear()
    ok(host.state("connected"))


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 100 MiB for volumes, which may promise more than it has."""
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=100M", "tmpfs", str(disk)], check=True)
    (disk / "volumes").mkdir(mode=0o700)
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_u6_r2_r6_a_device_that_cannot_be_detached_stays_mapped(small_disk, hosts, steps):
    """The storage is full, so cached data cannot be flushed: nothing is detached or unmapped."""
    host = hosts(volumes=small_disk / "volumes")
    ok(host.state("connected", size=1))
    steps.clear()
    filler, device = small_disk / "filler", host.folder / "dev" / "data"
    with filler.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, 98 << 20)
    with open(device, "r+b", buffering=0) as file:
        file.write(os.urandom(8 << 20))
    done = host.state("disconnected")
    assert (done["result"], done["changes"]) == (False, {}), done
    assert done["comment"].startswith("DATA_LOSS: "), done
    assert steps == []
    [connection] = host.service.catalog.connections()
    assert (connection.host, connection.state) == ("web1", model.CONNECTED)
    assert host.flow.consumer.check("data").ok
    filler.unlink()
    with open(device, "r+b", buffering=0) as file:
        file.write(os.urandom(8 << 20))
    ok(host.state("disconnected"))
    assert steps == ["detach", "unmap"]
    assert host.service.catalog.connections() == []
