"""A host dies or is cut off, another takes its volume over, and the former one comes back."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from . import network
from .consumer import Writing, assert_nothing_attached
from .guest import LabError, wait_for
from .lab import Lab
from .verified import Verified

BACKEND, PROTOCOL = "file, tgt", "iSCSI, CHAP"
MOUNT = "/srv/failover"
MOUNTED = {"owner": "shared", "mount": MOUNT, "fstype": "ext4"}


def test_another_host_takes_over(lab: Lab, verified: Verified) -> None:
    """Rows C6, U10 and R18."""
    heir, dead = lab.consumers
    lab.controller.run("storage.create", "failover", "size=1", "owner=shared")
    done = lab.controller.state(dead, "storage_volume.mounted", "failover", **MOUNTED)
    assert done["result"] is True, done
    dead.run(f"echo written >{MOUNT}/file; sync")
    dead.kill()
    with verified(BACKEND, PROTOCOL, "dead host: its volume is freed only by an explicit word that it is fenced"):
        refused = lab.controller.state(heir, "storage_volume.mounted", "failover", **MOUNTED)
        assert refused["comment"].startswith("FAILED_PRECONDITION"), refused
        assert dead.name in refused["comment"]
        free = ["storage.disconnect", "failover", "owner=shared", f"host={dead.name}"]
        assert "fenced=True" in lab.controller.ran(*free).stdout
        lab.controller.run(*free, "fenced=True")
    with verified(BACKEND, PROTOCOL, "dead host: the volume is mounted on another host, with its data"):
        done = lab.controller.state(heir, "storage_volume.mounted", "failover", **MOUNTED)
        assert done["result"] is True, done
        assert heir.run(f"cat {MOUNT}/file").strip() == "written"
        heir.run(f"echo by {heir.name} >{MOUNT}/file; sync")


def test_the_dead_host_comes_back(lab: Lab, verified: Verified) -> None:
    """Rows U10 and R18; and R5: the target is gone, and its node records go all the same."""
    heir, dead = lab.consumers
    with verified(BACKEND, PROTOCOL, "dead host comes back: it does not get its volume, says so, and removes what is left of it"):
        dead.start()
        dead.wait()
        lab.controller.wait_for_minions([dead])
        wait_for(lambda: "activating" not in dead.ran("systemctl is-active salt-storage-reattach").output, "the unit to end", 240)
        unit = dead.ran("systemctl is-active salt-storage-reattach; journalctl --no-pager --unit salt-storage-reattach")
        assert unit.output.startswith("failed"), unit
        assert "failover" in unit.output
        assert MOUNT not in dead.run("cat /proc/mounts")
        back = lab.controller.state(dead, "storage_volume.mounted", "failover", **MOUNTED)
        assert back["result"] is False, back
        assert heir.name in back["comment"]
        assert "was taken from this host while it was fenced" in back["comment"], back
        assert_nothing_attached(dead)
        assert lab.controller.job(dead, "storage.attachments") == []
        # The contents of the storage, not of the heir's cache.
        assert heir.run(f"sync; echo 3 > /proc/sys/vm/drop_caches; cat {MOUNT}/file").strip() == f"by {heir.name}"


def test_a_host_that_was_cut_off_comes_back(lab: Lab, verified: Verified) -> None:
    """Rows U10 and R18: it lives, and still has the device, mounted, with writes that wait for
    the storage.
    """
    former, heir = lab.consumers
    (volume,) = lab.volumes.glob("volume-*")
    blob = Writing(former, f"{MOUNT}/blob")
    blob.goes_on()
    networks = range(len(network.NETWORKS))
    for number in networks:
        network.set_path(former.name, number, up=False)
    try:
        with verified(BACKEND, PROTOCOL, "fenced host that lives, in the middle of a write: the volume is mounted on another host"):
            lab.controller.run("storage.disconnect", "failover", "owner=shared", f"host={former.name}", "fenced=True")
            done = lab.controller.state(heir, "storage_volume.mounted", "failover", **MOUNTED)
            assert done["result"] is True, done
            assert heir.run(f"cat {MOUNT}/file").strip() == f"by {former.name}"
            # From here on, no change of the volume is the heir's.
            heir.run(f"echo by {heir.name} >{MOUNT}/file; sync; fsfreeze --freeze {MOUNT}")
            before = checksum(volume)
    finally:
        for number in networks:
            network.set_path(former.name, number, up=True)
    with verified(
        BACKEND, PROTOCOL, "it comes back: its session is refused, the next state removes the device, and nothing stale is written"
    ):
        lab.controller.wait_for_minions([former])
        wait_for(lambda: "login rejected" in former.run("journalctl --no-pager --unit iscsid"), "the session to be refused", 120)
        assert MOUNT in former.run("cat /proc/mounts")
        back = lab.controller.state(former, "storage_volume.mounted", "failover", **MOUNTED)
        assert back["result"] is False, back
        assert heir.name in back["comment"], back
        assert "was taken from this host while it was fenced; its stale device" in back["comment"], back
        assert_nothing_attached(former)
        assert lab.controller.job(former, "storage.attachments") == []
        with pytest.raises(LabError, match="Input/output error|Read-only file system"):
            wait_for(lambda: blob.blocks < 0, "the writer to fail", 60)
        assert checksum(volume) == before
        heir.run(f"fsfreeze --unfreeze {MOUNT}; echo 3 > /proc/sys/vm/drop_caches")
        assert heir.run(f"cat {MOUNT}/file").strip() == f"by {heir.name}"


def checksum(volume: Path) -> str:
    """Return the checksum of a volume as the SAN has it."""
    with volume.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@pytest.fixture(scope="module", autouse=True)
def _clean(lab: Lab) -> None:
    yield
    for host in lab.consumers:
        done = lab.controller.state(host, "storage_volume.disconnected", "failover", owner="shared")
        assert done["result"] is True, done
    lab.controller.run("storage.delete", "failover", "owner=shared")
    assert lab.files() == []
