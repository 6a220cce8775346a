"""Ceph RBD: the controller makes images with Cinder's driver, a host maps them with its kernel's
client and has no file of Ceph's.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from . import network
from .ceph import POOL, Ceph, missing
from .conftest import running
from .guest import Guest
from .lab import FOLDER, Lab, failed, mount_file
from .verified import Verified

pytestmark = pytest.mark.long

BACKEND = "Ceph (Cinder's RBD driver)"
PROTOCOL = "RBD, kernel client"
MOUNT = "/srv/rbd"
SUMS = f"cd {MOUNT} && sha256sum blob"
RECORDS = "/var/lib/salt-storage/minion/attachments"


@pytest.fixture(scope="module")
def ceph(request: pytest.FixtureRequest, lab: Lab) -> Iterator[Ceph]:
    """Yield a cluster that the controller has as the backend ``ceph`` and that is on a file
    system of its own.
    """
    assert missing() == []
    folder, image = FOLDER / "ceph", FOLDER / "ceph.ext4"
    folder.mkdir()
    with image.open("wb") as disk:
        disk.truncate(24 * 2**30)
    subprocess.run(["mke2fs", "-q", "-t", "ext4", "-E", "lazy_itable_init=1,nodiscard", str(image)], check=True)
    mount_file(image, folder)
    cluster = Ceph(folder, network.OUTSIDE[0])
    try:
        with running(request.session, cluster), _backend(lab, cluster):
            yield cluster
    finally:
        subprocess.run(["umount", str(folder)], check=True)
        image.unlink()


@contextmanager
def _backend(lab: Lab, cluster: Ceph) -> Iterator[None]:
    """Let the controller have the cluster as a backend."""
    file = lab.controller.config_dir / "master"
    before = file.read_text()
    config = json.loads(before)
    config["storage"]["backends"]["ceph"] = cluster.backend()
    config["storage"]["python_path"] = [str(cluster.python_path)]
    _restart(lab, json.dumps(config))
    try:
        yield
    finally:
        _restart(lab, before)


def _restart(lab: Lab, config: str) -> None:
    lab.controller.stop()
    (lab.controller.config_dir / "master").write_text(config)
    lab.controller.start()
    lab.controller.wait_for_minions(list(lab.guests.values()))


@pytest.fixture
def guest(lab: Lab) -> Guest:
    return lab.guests["db1"]


def apply(lab: Lab, guest: Guest, **volumes: Any) -> dict[str, Any]:
    """Apply a pillar of volumes on one guest and return the results."""
    lab.volumes_pillar({name: {"backend": "ceph", "size": "1GiB", "fstype": "xfs", **volume} for name, volume in volumes.items()})
    result = lab.controller.job(guest, "state.apply", "storage.volumes")
    failed(guest.name, result)
    return result


def record(guest: Guest, name: str) -> dict[str, Any]:
    return json.loads(guest.run(f"cat {RECORDS}/*-{name}.json"))


def test_a_volume_is_made_attached_and_mounted(lab: Lab, ceph: Ceph, guest: Guest, verified: Verified) -> None:
    with verified(BACKEND, PROTOCOL, "state.apply: create, attach without files of Ceph's on the host, format (xfs), mount"):
        guest.run("rm -rf /etc/ceph")
        apply(lab, guest, data={"mount": MOUNT})
        guest.run(f"head -c 20M /dev/urandom > {MOUNT}/blob && sync")
        assert guest.run(f"findmnt --noheadings --output FSTYPE {MOUNT}").strip() == "xfs"
        (image,) = ceph.rbd("ls", POOL).split()
        assert image in record(guest, "data")["identity"]["image"]
        assert [watcher.partition(":")[0] for watcher in ceph.watchers(image)] == [guest.addresses[0]]
    with verified(BACKEND, PROTOCOL, "the same pillar applied again changes nothing"):
        result = apply(lab, guest, data={"mount": MOUNT})
        assert not any(entry["changes"] for entry in result.values()), result


def test_g9_r26_the_key_is_in_the_record_and_nowhere_else(lab: Lab, ceph: Ceph, guest: Guest) -> None:
    key = ceph.ceph("auth", "print-key", "client.cinder").strip()
    assert key in record(guest, "data")["connection_info"]["data"]["keyring"]
    found = guest.run(f"grep -rlF {key} /etc /run /tmp /var/tmp /var/lib/salt-storage /var/log /var/cache/salt || true").split()
    assert all(path.startswith(RECORDS) for path in found), found
    assert guest.run(f"stat -c %a {' '.join(found)}").split() == ["600"]
    master = [path for path in lab.controller.folder.glob("m/var/**/*") if path.is_file() and key.encode() in path.read_bytes()]
    assert master == []


def test_x2_x6_it_grows_while_mounted(lab: Lab, ceph: Ceph, guest: Guest, verified: Verified) -> None:
    with verified(BACKEND, PROTOCOL, "grow online while mounted: image, device and file system; data intact"):
        before = guest.run(SUMS)
        apply(lab, guest, data={"mount": MOUNT, "size": "2GiB"})
        assert int(guest.run(f"blockdev --getsize64 {record(guest, 'data')['path']}")) == 2 * 2**30
        assert int(guest.run(f"df --output=size -B1 {MOUNT} | tail -1")) > 1.8 * 2**30
        assert guest.run(SUMS) == before


def test_p6_a_clone_is_mounted_beside_its_origin(lab: Lab, ceph: Ceph, guest: Guest, verified: Verified) -> None:
    with verified(BACKEND, PROTOCOL, "a clone mounted beside its origin (xfs)"):
        guest.run("sync")
        origin = {"mount": MOUNT, "size": "2GiB"}
        apply(lab, guest, data=origin, copy={"mount": "/srv/copy", "size": "2GiB", "source": {"volume": "data"}})
        assert guest.run(SUMS) == guest.run(SUMS.replace(MOUNT, "/srv/copy"))


def test_c10_a_reboot_with_the_controller_down(lab: Lab, ceph: Ceph, guest: Guest, verified: Verified) -> None:
    with verified(BACKEND, PROTOCOL, "reboot of the host with the master down: attached and mounted again"):
        before = guest.run(SUMS)
        lab.controller.stop()
        try:
            guest.reboot()
            # Only what the boot itself starts; the unit loads Salt and os-brick on a guest's one
            # slow CPU.
            guest.run("systemctl is-system-running --wait || true", timeout=600)
            guest.run(f"systemctl is-active salt-storage-reattach && mountpoint {MOUNT} && mountpoint /srv/copy")
            assert guest.run(SUMS) == before
        finally:
            lab.controller.start()
            lab.controller.wait_for_minions([guest])


def test_d3_absent_leaves_nothing(lab: Lab, ceph: Ceph, guest: Guest, verified: Verified) -> None:
    with verified(BACKEND, PROTOCOL, "absent, the origin before its clone: no device, image or snapshot is left"):
        for name, mount in (("data", MOUNT), ("copy", "/srv/copy")):
            apply(lab, guest, **{name: {"mount": mount, "size": "2GiB", "state": "absent"}})
        assert guest.run("ls /sys/bus/rbd/devices").split() == []
        assert guest.run("ls /dev/storage 2>/dev/null || true").split() == []
        assert ceph.rbd("ls", POOL).split() == []
        assert ceph.rbd("trash", "ls", "--all", POOL).split() == []
