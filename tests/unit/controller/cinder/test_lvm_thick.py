"""Thick volumes of LVM that are set back to a snapshot: real LVM, where the kernel has a device
mapper, as in a guest of the lab.
"""

from __future__ import annotations

import os
import subprocess
import uuid
from types import SimpleNamespace

import pytest

from tests import needs

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(not needs.has_mapper("dm_mod", "dm-snapshot"), reason=needs.NO_MAPPER),
]

GROUP = "storageunit"


class KilledError(BaseException):
    """Stands for SIGKILL: nothing handles it."""


class Thing(dict):
    """A stand-in for Cinder's objects: its keys are attributes too."""

    def __getattr__(self, key):
        return self[key]


def run(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def driver(tmp_path):
    from cinder import objects, privsep
    from cinder.brick.local_dev import lvm
    from oslo_concurrency import processutils

    objects.register_all()
    from saltstorage.controller.cinder.lvm import LVMVolumeDriver

    privsep.sys_admin_pctxt.set_client_mode(False)
    disk = tmp_path / "disk"
    with disk.open("wb") as file:
        file.truncate(2**30)
    device = run("losetup", "--find", "--show", disk).strip()
    try:
        run("vgcreate", GROUP, device)
        made = LVMVolumeDriver.__new__(LVMVolumeDriver)
        made.configuration = SimpleNamespace(lvm_type="default", volume_group=GROUP)
        made.vg = lvm.LVM(GROUP, "", lvm_type="default", executor=processutils.execute)
        yield made
    finally:
        subprocess.run(["vgremove", "-f", GROUP], check=False)
        run("losetup", "--detach", device)


@pytest.fixture
def volume(driver):
    volume = Thing(name=f"volume-{uuid.uuid4()}", size=1)
    run("lvcreate", "-y", "-n", volume.name, "-L", "64m", GROUP)
    return volume


@pytest.fixture
def snapshot(driver, volume):
    """A snapshot; the volume had one content before, and has another since."""
    write(volume, b"before")
    number = str(uuid.uuid4())
    snapshot = Thing(id=number, name=f"snapshot-{number}", volume_name=volume.name)
    driver.create_snapshot(snapshot)
    write(volume, b"after!")
    return snapshot


def path(volume):
    return f"/dev/{GROUP}/{volume.name}"


def write(volume, data):
    with open(path(volume), "r+b") as file:
        file.write(data)
        os.fsync(file.fileno())


def read(volume):
    with open(path(volume), "rb") as file:
        return file.read(6)


def names():
    return {line.split()[0]: line.split()[1:] for line in run("lvs", "--noheadings", "-o", "lv_name,lv_tags", GROUP).splitlines()}


def test_a_volume_is_set_back_again_and_again(driver, volume, snapshot):
    for _ in range(2):
        driver.revert_to_snapshot(None, volume, snapshot)
        assert read(volume) == b"before"
        assert names() == {volume.name: [], f"_{snapshot.name}": []}
        write(volume, b"again!")


@pytest.mark.parametrize("at", ["deactivate_lv", "activate_lv", "create_lv_snapshot"])
def test_killed_after_the_merge(driver, volume, snapshot, monkeypatch, at):
    """The snapshot is gone by then; a repetition makes it anew, of the volume as it was."""

    def die(*_args, **_more):
        raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(driver.vg, at, die)
        with pytest.raises(KilledError):
            driver.revert_to_snapshot(None, volume, snapshot)
    assert f"_{snapshot.name}" not in names()
    driver.revert_to_snapshot(None, volume, snapshot)
    assert read(volume) == b"before"
    assert names() == {volume.name: [], f"_{snapshot.name}": []}


def test_a_deleted_snapshot_does_not_count_as_merged(driver, volume, snapshot):
    from cinder import exception

    run("lvremove", "-y", f"{GROUP}/_{snapshot.name}")
    for _ in range(2):
        with pytest.raises(exception.SnapshotNotFound):
            driver.revert_to_snapshot(None, volume, snapshot)
    assert read(volume) == b"after!"
