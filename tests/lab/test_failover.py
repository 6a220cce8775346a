"""A host dies, another takes its volume over, and the dead one comes back."""

from __future__ import annotations

import pytest

from .consumer import assert_nothing_attached
from .guest import wait_for
from .lab import Lab
from .verified import Verified

pytestmark = pytest.mark.long

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
        # What the storage has, not what the heir remembers.
        assert heir.run(f"sync; echo 3 > /proc/sys/vm/drop_caches; cat {MOUNT}/file").strip() == f"by {heir.name}"


@pytest.fixture(scope="module", autouse=True)
def _clean(lab: Lab) -> None:
    yield
    done = lab.controller.state(lab.consumers[0], "storage_volume.disconnected", "failover", owner="shared")
    assert done["result"] is True, done
    lab.controller.run("storage.delete", "failover", "owner=shared")
    assert lab.files() == []
