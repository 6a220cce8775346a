"""Two portals and multipathd: the volume is one device, and losing a path costs no write."""

from __future__ import annotations

import re

import pytest

from . import network
from .consumer import active_paths, assert_nothing_attached, disks, record, writing
from .guest import Guest, wait_for
from .lab import Lab
from .verified import Verified

BACKEND = "file, tgt"
PROTOCOL = "iSCSI, CHAP, multipath"
MOUNT = "/srv/paths"


@pytest.fixture(scope="module")
def host(lab: Lab) -> Guest:
    return lab.guests["db2"]


def test_the_volume_is_the_map(lab: Lab, host: Guest, verified: Verified) -> None:
    """Rows R3 and R25: the volume is the map that multipathd made of its paths, by a name that
    stays.
    """
    with verified(BACKEND, PROTOCOL, "create, attach over two portals, format (xfs), mount"):
        done = lab.controller.state(host, "storage_volume.mounted", "paths", size=1, mount=MOUNT, fstype="xfs")
        assert done["result"] is True, done
        assert record(host, "paths")["path"].startswith("/dev/disk/by-id/dm-uuid-mpath-")
        assert active_paths(host) == 2
        assert len(disks(host)) == 3, "two paths and the map"
        assert host.run(f"findmnt --noheadings --output SOURCE {MOUNT}").strip().startswith("/dev/mapper/")


def test_a_path_is_cut_while_it_is_written_to(lab: Lab, host: Guest, verified: Verified) -> None:
    with verified(BACKEND, PROTOCOL, "the path in use is cut in the middle of a checksummed write, which completes; the path comes back"):
        write_over(host, network.OUTSIDE[1])
        with writing((host, f"{MOUNT}/blob")) as (blob,):
            network.set_path(host.name, 1, up=False)
            try:
                # A write that begins now begins over the path that was cut.
                blob.goes_on()
                wait_for(lambda: active_paths(host) == 1, "the path to be given up", 60)
            finally:
                network.set_path(host.name, 1, up=True)
            wait_for(lambda: active_paths(host) == 2, "the path to come back", 120)
        again = lab.controller.state(host, "storage_volume.mounted", "paths", size=1, mount=MOUNT, fstype="xfs")
        assert (again["result"], again["changes"]) == (True, {}), again


def write_over(host: Guest, portal: str) -> None:
    """Let the kernel use the path to a portal; by default, paths are used one after the other."""
    find = (
        f'for c in /sys/class/iscsi_connection/*; do [ "$(cat $c/persistent_address)" = {portal} ] || continue; '
        "n=${c##*connection}; cat /sys/class/iscsi_session/session${n%:*}/device/target*/*:*/block/*/dev; done"
    )
    path = host.run(find).strip()
    name, _, table = host.run("dmsetup table --target multipath").partition(": ")
    groups = re.findall(r"service-time 0 \d+ \d+((?: \d+:\d+ \d+)+)", table)
    (number,) = (n for n, group in enumerate(groups, 1) if path in group.split())
    host.run(f"dmsetup message {name} 0 switch_group {number}")


@pytest.mark.long
def test_grow_while_a_path_is_down(lab: Lab, host: Guest, verified: Verified) -> None:
    """Row R21: a path of the former size must not be used with the others."""
    with verified(BACKEND, PROTOCOL, "growing is refused by the host while a path is down, and completed when it is back"):
        network.set_path(host.name, 1, up=False)
        try:
            wait_for(lambda: active_paths(host) == 1, "the path to be given up", 60)
            done = lab.controller.state(host, "storage_volume.mounted", "paths", size=2, mount=MOUNT, fstype="xfs")
            assert done["result"] is False, done
            assert "paths need to be up" in done["comment"], done
            assert filesystem_size(host) < 1
        finally:
            network.set_path(host.name, 1, up=True)
        wait_for(lambda: active_paths(host) == 2, "the path to come back", 120)
        done = lab.controller.state(host, "storage_volume.mounted", "paths", size=2, mount=MOUNT, fstype="xfs")
        assert done["result"] is True, done
        assert set(disks(host).values()) == {2 * 2**30}
        assert filesystem_size(host) > 1.8


def filesystem_size(host: Guest) -> float:
    """Return the size of the mounted file system, GiB."""
    return int(host.run(f"findmnt --bytes --noheadings --output SIZE {MOUNT}")) / 2**30


def test_disconnect_leaves_no_map(lab: Lab, host: Guest, verified: Verified) -> None:
    """Row R7."""
    with verified(BACKEND, PROTOCOL, "disconnect leaves no map, path, session or node record; delete leaves no file"):
        done = lab.controller.state(host, "storage_volume.disconnected", "paths")
        assert done["result"] is True, done
        assert host.run("multipath -ll").strip() == ""
        assert "No devices found" in host.run("dmsetup ls")
        assert_nothing_attached(host)
        done = lab.controller.state(host, "storage_volume.absent", "paths")
        assert done["result"] is True, done
        assert lab.files() == []


@pytest.mark.long
def test_a_single_path_that_multipathd_takes(lab: Lab, verified: Verified) -> None:
    """Row R25: the map is the volume's device then, in all that is done with it."""
    host = lab.guests["db1"]
    with verified(BACKEND, "iSCSI, CHAP", "a single path that multipathd takes later: the map is checked, grown and detached"):
        assert lab.controller.state(host, "storage_volume.connected", "taken", size=1)["result"] is True
        path = record(host, "taken")["device"]
        host.run(f"systemctl start multipathd && multipath -a {path} && multipathd reconfigure")
        try:
            wait_for(lambda: active_paths(host) == 1, "multipathd to take the path", 60)
            status = lab.controller.job(host, "storage.attachment", "taken")
            assert status["status"] == "ok", status
            assert host.run("readlink -f /dev/storage/taken").startswith("/dev/dm-")
            again = lab.controller.state(host, "storage_volume.connected", "taken", size=1)
            assert (again["result"], again["changes"]) == (True, {}), again
            done = lab.controller.state(host, "storage_volume.mounted", "taken", size=2, mount="/srv/taken", fstype="xfs")
            assert done["result"] is True, done
            assert disks(host) == dict.fromkeys(disks(host), 2 * 2**30)
            assert len(disks(host)) == 2, "the path and the map"
            done = lab.controller.state(host, "storage_volume.absent", "taken", disconnect=True)
            assert done["result"] is True, done
            assert "No devices found" in host.run("dmsetup ls")
            assert_nothing_attached(host)
        finally:
            host.run("systemctl stop multipathd multipathd.socket; rm -f /etc/multipath/wwids")


@pytest.mark.long
def test_all_paths_are_down(lab: Lab, host: Guest, verified: Verified) -> None:
    """Row R7: the volume is let go of only after the possible loss is reported."""
    with verified(BACKEND, PROTOCOL, "with all paths down it stays attached, and is detached with force"):
        assert lab.controller.state(host, "storage_volume.connected", "lost", size=1)["result"] is True
        lab.stop_tgtd()
        try:
            wait_for(lambda: active_paths(host) == 0, "the paths to be given up", 180)
            # Otherwise a flush waits some minutes for a path.
            host.run("multipathd disablequeueing maps")
            done = lab.controller.state(host, "storage_volume.disconnected", "lost")
            assert done["result"] is False, done
            assert "force" in done["comment"], done
            assert lab.controller.job(host, "storage.attachment", "lost")["state"] == "attached"
        finally:
            lab.start_tgtd(listen=False)
        done = lab.controller.state(host, "storage_volume.disconnected", "lost", force=True)
        assert done["result"] is True, done
        assert "No devices found" in host.run("dmsetup ls")
        assert_nothing_attached(host)
        lab.listen()
        done = lab.controller.state(host, "storage_volume.absent", "lost")
        assert done["result"] is True, done
        assert lab.files() == []
