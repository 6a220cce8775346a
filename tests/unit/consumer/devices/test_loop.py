from __future__ import annotations

import multiprocessing
import os
import subprocess

import pytest

from saltstorage.consumer.devices import block, loop
from saltstorage.errors import FailedPreconditionError, NotFoundError
from tests.loops import let_go
from tests.unit.consumer.helpers import GIB, devices_below

TAG = loop.tag("/nonexistent/a")
OTHER = loop.tag("/nonexistent/b")


def test_a_file_is_attached_and_detached(file, folder):
    path = loop.attach(str(file), TAG)
    status = loop.status(path)
    assert (status.inode, status.tag, status.read_only, status.plain) == (file.stat().st_ino, TAG, False, True)
    assert status.backing_file == str(file)
    assert block.size(path) == GIB
    let_go(path)
    assert devices_below(folder) == []
    assert loop.detach("/dev/nonexistent"), "there is nothing to detach"


def test_the_same_file_gets_the_same_device(file, folder):
    """The device of a crashed attempt is used again, also when the file has another name."""
    path = loop.attach(str(file), TAG)
    (folder / "alias").symlink_to(file)
    os.link(file, folder / "hard")
    assert {loop.attach(str(folder / name), TAG) for name in ("volume-1", "alias", "hard")} == {path}
    assert len(devices_below(folder)) == 1
    let_go(path)


def test_a_device_made_by_losetup_is_taken_over(file):
    path = subprocess.run(["losetup", "--find", "--show", str(file)], check=True, capture_output=True, text=True).stdout.strip()
    assert loop.attach(str(file), TAG) == path
    assert loop.status(path).tag == TAG
    assert loop.status(path).backing_file == str(file)
    let_go(path)


def test_two_consumers_have_a_device_each(file):
    """Two minions on a machine are two hosts: each detaches only its own device."""
    one, two = loop.attach(str(file), TAG), loop.attach(str(file), OTHER)
    assert one != two
    assert loop.attach(str(file), OTHER) == two
    let_go(one)
    assert loop.status(two) is not None
    let_go(two)


def test_a_device_over_a_part_of_the_file_is_not_the_volume(file):
    path = subprocess.run(["losetup", "-f", "--show", "-o", "4096", str(file)], check=True, capture_output=True, text=True).stdout.strip()
    with pytest.raises(FailedPreconditionError, match=f"{path} over a part"):
        loop.attach(str(file), TAG)
    let_go(path)


@pytest.mark.alone  # a number is freed and taken again
def test_a_number_is_left_writable_for_its_next_user(file):
    path = loop.attach(str(file), TAG, read_only=True)
    block.set_read_only(path, True)
    with open(path, "rb"):
        assert not loop.detach(path)
        assert is_read_only(path), "it stays as it was while it is open"
    let_go(path)
    # A stranger gets the number, as with mount -o loop.
    subprocess.run(["losetup", path, str(file)], check=True)
    assert not is_read_only(path)
    subprocess.run(["losetup", "--detach", path], check=True)


def is_read_only(path):
    return subprocess.run(["blockdev", "--getro", path], capture_output=True, check=True, text=True).stdout.strip() == "1"


def test_a_read_only_device_refuses_writes_and_a_second_use_for_writing(file):
    path = loop.attach(str(file), TAG, read_only=True)
    with pytest.raises(OSError, match=r"Operation not permitted|Read-only|Permission"), open(path, "r+b", buffering=0) as device:
        device.write(b"x" * 512)
    with pytest.raises(FailedPreconditionError, match="for reading only"):
        loop.attach(str(file), TAG)
    let_go(path)


def test_a_device_in_use_stays_as_it_was(file):
    """The kernel reports success and detaches later; here the result is False, and it stays."""
    path = loop.attach(str(file), TAG)
    fd = os.open(path, os.O_RDONLY)
    assert not loop.detach(path)
    os.close(fd)
    assert loop.status(path) is not None
    let_go(path)


def test_a_device_takes_the_new_size_of_its_file(file):
    path = loop.attach(str(file), TAG)
    os.truncate(file, 2 * GIB)
    assert block.size(path) == GIB
    loop.refresh_size(path)
    assert block.size(path) == 2 * GIB
    let_go(path)


def test_a_missing_file_is_named(folder):
    with pytest.raises(NotFoundError, match="no-such"):
        loop.attach(str(folder / "no-such"), TAG)


def test_other_files_and_devices_have_no_loop_status(file):
    assert loop.status(str(file)) is None
    assert loop.status("/dev/null") is None
    assert loop.status("/nonexistent") is None


def _attach(arguments):
    return loop.attach(*arguments)


def test_many_processes_at_once_make_one_device(file, folder):
    with multiprocessing.get_context("fork").Pool(8) as pool:
        paths = pool.map(_attach, [(str(file), TAG)] * 40, chunksize=1)
    assert len(set(paths)) == 1
    assert len(devices_below(folder)) == 1
    let_go(paths[0])


def test_many_files_at_once_get_a_device_each(make_file, folder):
    """Processes that find the same free device do not fail."""
    files = [str(make_file(f"volume-{number}", 2**20)) for number in range(12)]
    with multiprocessing.get_context("fork").Pool(6) as pool:
        paths = pool.map(_attach, [(file, TAG) for file in files], chunksize=1)
    assert len(set(paths)) == 12
    for path, file in zip(paths, files, strict=True):
        assert loop.status(path).backing_file == file
        let_go(path)
