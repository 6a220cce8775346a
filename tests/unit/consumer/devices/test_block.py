from __future__ import annotations

import os

import pytest

from saltstorage.consumer.devices import block, loop
from saltstorage.consumer.host.records import Identity
from saltstorage.errors import DataLossError, UnavailableError
from tests.unit.consumer.helpers import GIB


def test_identity_of_a_loop_device(device, file):
    found = block.identity(device)
    assert found == Identity(size=GIB, backing_file=str(file), backing_inode=file.stat().st_ino)
    assert block.differences(found, found) == []


@pytest.mark.parametrize(
    ("recorded", "found", "word"),
    [
        ({"wwn": "naa.1"}, {"wwn": "naa.2"}, "WWN is naa.2, not naa.1"),
        ({"wwn": "naa.1"}, {}, "WWN is missing"),
        ({"serial": "a"}, {"serial": "b"}, "serial number"),
        ({"dm_uuid": "mpath-1"}, {"dm_uuid": "mpath-2"}, "device mapper"),
        ({"image": "p/a (id 1)"}, {"image": "p/a (id 2)"}, "RBD image"),
        ({"backing_inode": 1}, {"backing_inode": 2}, "inode"),
        ({"backing_file": "/a"}, {"backing_file": "/a (deleted)"}, "deleted"),
    ],
)
def test_another_identity_is_named(recorded, found, word):
    """Rule R1: another WWN, serial or file is another volume; a missing property proves nothing."""
    (text,) = block.differences(Identity(size=1, **recorded), Identity(size=1, **found))
    assert word in text


def test_a_property_that_was_not_recorded_is_not_compared():
    assert block.differences(Identity(size=1), Identity(size=2, wwn="naa.1", serial="x")) == []


def test_a_path_and_its_map_are_the_same():
    """Rule R25: a path may be below a map by now.

    A map without paths is still that map, and a path alone is not the map.
    """
    path, one = Identity(size=1, wwn="naa.1", serial="x"), {"wwn": "naa.1", "serial": "x", "dm_uuid": "mpath-31"}
    assert block.differences(path, Identity(size=1, **one)) == []
    assert block.differences(path, Identity(size=1, **{**one, "wwn": "naa.2"})) != []
    assert block.differences(Identity(size=1, **one), Identity(size=1, dm_uuid="mpath-31")) == []
    assert block.differences(Identity(size=1, **one), path) != []


def test_a_device_that_goes_during_a_look_is_its_own_top(tmp_path):
    assert block.top(str(tmp_path / "sdx")) == str(tmp_path / "sdx")


def test_the_image_of_an_rbd_device_needs_pool_name_and_id(tmp_path):
    assert block.rbd_image(str(tmp_path)) == ""
    (tmp_path / "device").mkdir()
    (tmp_path / "device/name").write_text("volume-1\n")
    assert block.rbd_image(str(tmp_path)) == ""
    (tmp_path / "device/pool").write_text("volumes\n")
    (tmp_path / "device/image_id").write_text("10ab\n")
    assert block.rbd_image(str(tmp_path)) == "volumes/volume-1 (id 10ab)"


def test_a_readable_device_passes_the_check(device):
    block.check_readable(device)


def test_an_unreadable_device_is_refused(device, file):
    """Trap 10: the file under the device is cut, so that its end cannot be read."""
    with file.open("r+b") as handle:
        handle.write(b"x" * 4096)
    os.truncate(file, 4096)
    with pytest.raises(UnavailableError, match="cannot be read"):
        block.check_readable(device)


def test_a_device_must_have_the_size_of_its_volume_unless_it_may_have_grown(device, file):
    assert block.check_size(device, 1) == GIB
    with pytest.raises(DataLossError, match="may be another volume"):
        block.check_size(device, 2)
    os.truncate(file, 2 * GIB)
    loop.refresh_size(device)
    with pytest.raises(DataLossError):
        block.check_size(device, 1)
    assert block.check_size(device, 1, grown=True) == 2 * GIB


def test_only_block_devices_are_block_devices(device, file):
    assert block.is_block(device)
    assert not block.is_block(str(file))
    assert not block.is_block("/dev/null")
    assert not block.is_block("/nonexistent")


def test_a_read_only_device_refuses_writes_until_it_is_set_back(device):
    block.set_read_only(device, True)
    with pytest.raises(OSError, match=r"permitted|Permission|Read-only"), open(device, "r+b", buffering=0) as handle:
        handle.write(b"x" * 512)
    # The device would keep the setting for its next file.
    block.set_read_only(device, False)
    with open(device, "r+b", buffering=0) as handle:
        handle.write(b"x" * 512)


def test_flush_writes_cached_data(device, file):
    with open(device, "r+b") as handle:
        handle.write(b"cached")
    block.flush(device)
    with file.open("rb") as handle:
        assert handle.read(6) == b"cached"
