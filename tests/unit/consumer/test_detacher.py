"""Detaching volumes, and refusing to detach a volume in use."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from saltstorage.consumer.devices import loop
from saltstorage.consumer.host.records import DETACHED, INTENT
from saltstorage.consumer.status import WRONG
from saltstorage.errors import DataLossError, FailedPreconditionError
from tests.loops import let_go
from tests.unit.consumer.helpers import GIB, attach, devices_below, drop


@pytest.mark.alone  # as above
def test_u7_detaching_leaves_another_file_on_the_number_alone(consumer, file, make_file):
    other = make_file("other")
    one = attach(consumer, file)
    let_go(one.device)
    subprocess.run(["losetup", one.device, str(other)], check=True)
    drop(consumer)
    assert loop.status(one.device).backing_file == str(other)
    let_go(one.device)


def test_u2_detaching_an_unattached_volume_changes_nothing(consumer, folder):
    assert not consumer.detach("data").changed
    assert not consumer.detach("data").unmap
    consumer.intend("db1", "data")
    assert consumer.detach("data").unmap
    consumer.forget("data")


def test_u4_a_link_to_a_device_without_a_record_is_refused(consumer, device, folder):
    os.makedirs(consumer.config.device_dir)
    os.symlink(device, consumer.links.path("data"))
    with pytest.raises(FailedPreconditionError, match="no attachment record"):
        consumer.detach("data")
    os.unlink(consumer.links.path("data"))
    os.symlink("/dev/no-such-device", consumer.links.path("data"))
    assert not consumer.detach("data").changed
    assert not os.path.lexists(consumer.links.path("data"))


@pytest.mark.parametrize("state", [INTENT, DETACHED])
def test_u4_an_intent_beside_a_mounted_device_is_refused(consumer, file, folder, state):
    """The records are lost while it is mounted, and a failed connect leaves an intent.

    The volume may not be unmapped.
    """
    one = attach(consumer, file)
    subprocess.run(["mkfs.ext4", "-q", one.path], check=True)
    point = folder / "mnt"
    point.mkdir()
    subprocess.run(["mount", one.path, str(point)], check=True)
    record = Path(consumer.records.path("data"))
    lost = record.read_bytes()
    record.unlink()
    try:
        consumer.intend("db1", "data")
        consumer.records.save(consumer.records.load("data").replace(state=state))
        for force in (False, True):
            with pytest.raises(FailedPreconditionError, match="no attachment record explains"):
                consumer.detach("data", force=force)
        assert consumer.attachment("data").state == state
        assert os.path.ismount(point)
    finally:
        subprocess.run(["umount", str(point)], check=True)
        record.write_bytes(lost)
        drop(consumer)


def test_u7_an_open_device_is_not_detached(consumer, file):
    """Row U7: a device in use stays as it is, also with force, and its holder is named."""
    one = attach(consumer, file)
    with open(one.path, "rb") as handle:
        process = subprocess.Popen(["sleep", "infinity"], stdin=handle)
    try:
        for force in (False, True):
            with pytest.raises(FailedPreconditionError, match=rf"open in sleep \(process {process.pid}\)") as caught:
                consumer.detach("data", force=force)
            assert len(caught.value.details["holders"]) == 1
        assert consumer.check("data").ok
    finally:
        process.kill()
        process.wait()
    drop(consumer)


def test_u7_a_mounted_device_is_not_detached(consumer, file, folder):
    one = attach(consumer, file)
    subprocess.run(["mkfs.ext4", "-q", one.path], check=True)
    point = folder / "mnt"
    point.mkdir()
    subprocess.run(["mount", one.path, str(point)], check=True)
    try:
        with pytest.raises(FailedPreconditionError, match=f"mounted on {point}"):
            consumer.detach("data")
        assert consumer.check("data").ok
    finally:
        subprocess.run(["umount", str(point)], check=True)
    drop(consumer)


def test_u8_unwritable_data_keeps_the_volume_attached(consumer, folder):
    """Rows U8 and R7: the file system below is full, so cached data cannot be written.

    The volume stays attached; force detaches it.
    """
    full = folder / "full"
    full.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1M", "tmpfs", str(full)], check=True)
    try:
        file = full / "volume"
        with file.open("wb") as handle:
            handle.truncate(GIB)
        one = attach(consumer, file)
        with open(one.path, "r+b", buffering=0) as device:
            device.write(os.urandom(4 * 2**20))
        with pytest.raises(DataLossError, match="stays attached"):
            consumer.detach("data")
        assert consumer.attachment("data").state == "attached"
        assert consumer.check("data").ok
        with open(one.path, "r+b", buffering=0) as device:
            device.write(os.urandom(4 * 2**20))
        done = consumer.detach("data", force=True)
        assert done.changed
        assert "data may be lost" in done.warnings[0]
        consumer.forget("data")
    finally:
        for status in devices_below(folder):
            let_go(status.path)
        subprocess.run(["umount", str(full)], check=True)


def test_an_attached_volume_is_not_forgotten(consumer, file):
    attach(consumer, file)
    with pytest.raises(FailedPreconditionError, match="may still be attached"):
        consumer.forget("data")
    drop(consumer)


def test_a_volume_whose_device_went_with_a_boot_is_detached(consumer, file):
    one = attach(consumer, file)
    let_go(one.device)
    done = consumer.detach("data")
    assert (done.changed, done.unmap) == (True, True)
    consumer.forget("data")


def test_a_volume_whose_file_was_deleted_is_detached(consumer, file, folder):
    one = attach(consumer, file)
    before = loop.status(one.device)
    os.unlink(file)
    assert consumer.check("data").state == WRONG
    assert consumer.detach("data").changed
    after = loop.status(one.device)  # the kernel may have given the number to another process
    assert after is None or (after.tag, after.inode) != (before.tag, before.inode)
    consumer.forget("data")
