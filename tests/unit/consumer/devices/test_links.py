from __future__ import annotations

import hashlib
import os
import stat

import pytest

from saltstorage.consumer.devices.links import DeviceLinks, stable_path
from saltstorage.errors import FailedPreconditionError
from tests.unit.consumer.helpers import HARD_NAMES


def test_a_link_is_made_moved_and_removed(tmp_path):
    links = DeviceLinks(str(tmp_path / "storage"))
    for name in HARD_NAMES:
        assert links.make(name, "/dev/null") == str(tmp_path / "storage" / name)
        links.make(name, "/dev/zero")
        assert links.target(name) == "/dev/zero"
    assert stat.S_IMODE(os.stat(tmp_path / "storage").st_mode) & 0o777 == 0o755
    for name in HARD_NAMES:
        links.remove(name)
        links.remove(name)
        assert links.target(name) is None
    assert os.listdir(tmp_path / "storage") == []


@pytest.mark.parametrize("kind", ["file", "directory", "foreign link"])
def test_a_file_in_the_way_is_never_touched(tmp_path, kind):
    links = DeviceLinks(str(tmp_path))
    path = tmp_path / "data"
    if kind == "file":
        path.write_text("important")
    elif kind == "directory":
        path.mkdir()
    else:
        path.symlink_to("/etc/passwd")
    before = os.lstat(path)
    with pytest.raises(FailedPreconditionError, match=r"in the way|no device"):
        links.make("data", "/dev/null")
    links.remove("data")
    assert os.lstat(path).st_ino == before.st_ino


def test_a_file_in_place_of_the_directory_is_named(tmp_path):
    (tmp_path / "storage").write_text("")
    with pytest.raises(FailedPreconditionError, match="not a directory"):
        DeviceLinks(str(tmp_path / "storage")).make("data", "/dev/null")
    assert DeviceLinks(str(tmp_path / "storage")).target("data") is None


def test_the_leftover_of_a_crash_is_replaced(tmp_path):
    links = DeviceLinks(str(tmp_path))
    links.make("data", "/dev/null")
    (tmp_path / ("." + hashlib.sha512(b"data").hexdigest() + ".new")).symlink_to("/dev/full")
    links.make("data", "/dev/zero")
    assert os.listdir(tmp_path) == ["data"]


def test_without_udev_a_device_is_its_own_stable_path():
    assert stable_path("/dev/null") == "/dev/null"
