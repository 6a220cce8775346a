"""Volumes that others made, whose size is no whole number of GiB."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from saltstorage.consumer.devices import block
from tests.unit.plans.minion import ok

pytestmark = pytest.mark.root

SIZE = 3 * 2**29


@pytest.fixture
def adopted(host):
    """A volume of 1.5 GiB with a file system, as most arrays leave it.

    The file driver is kept from making it larger.
    """
    backends = host.opts["storage"]["backends"]
    backends["other"] = {**backends["local"], "file_driver_path": str(host.folder / "others")}
    host.opts["storage"]["default_backend"] = "local"
    host.service.core.provider("local")
    made = host.root / "volumes" / "theirs"
    with made.open("wb") as file:
        file.truncate(SIZE)
    subprocess.run(["mkfs.xfs", "-q", str(made)], check=True)
    found = host.service.adoption.manage(name="data", owner="web1", reference="theirs")["volume"]
    os.truncate(host.root / "volumes" / f"volume-{found['id']}", SIZE)
    assert found["size"] == 2
    return host


def device_size(host):
    return block.size(host.flow.consumer.attachment("data").device)


def test_it_is_mounted_and_grows(adopted):
    for _ in range(2):
        done = adopted.mounted(size=2)
        assert done["result"] is True, done
    assert done["changes"] == {}
    assert device_size(adopted) == SIZE
    Path(adopted.mount_point, "file").write_text("kept")
    assert ok(adopted.state("extended", size=2))["changes"] == {}
    done = adopted.mounted(size=3)
    assert (done["result"], done["changes"]["size"]) == (True, {"old": 2, "new": 3}), done
    assert device_size(adopted) == 3 * block.GIB
    assert Path(adopted.mount_point, "file").read_text() == "kept"
    assert ok(adopted.mounted(size=3))["changes"] == {}


def test_after_a_boot(adopted):
    ok(adopted.mounted(size=2))
    subprocess.run(["umount", adopted.mount_point], check=True)
    subprocess.run(["losetup", "--detach", adopted.flow.consumer.attachment("data").device], check=True)
    [back] = adopted.flow.consumer.reattach()
    assert (back.state, back.error) == ("attached", None)


def test_a_growth_that_has_not_arrived_is_not_taken_for_rounding(adopted):
    ok(adopted.state("connected", size=2))
    assert adopted.flow.consumer.check("data", size=2).ok
    assert adopted.flow.consumer.check("data", size=3).state == "size"


def test_it_moves_to_another_backend(adopted):
    moved = adopted.service.moves.migrate(owner="web1", name="data", backend="other")["volume"]
    assert (moved["backend"], moved["size"]) == ("other", 2)
    assert (adopted.folder / "others" / f"volume-{moved['id']}").stat().st_size == 2 * block.GIB
    done = adopted.mounted(size=2, backend="other")
    assert done["result"] is True, done
