from __future__ import annotations

import os
import subprocess

import pytest

from saltstorage.consumer.devices import loop, mounts
from saltstorage.consumer.filesystems import mounting
from saltstorage.consumer.host import commands
from saltstorage.errors import FailedPreconditionError
from tests.loops import let_go
from tests.unit.consumer.helpers import GIB


@pytest.fixture
def formatted(device):
    subprocess.run(["mkfs.ext4", "-q", device], check=True)
    return device


@pytest.fixture
def point(folder, device):
    path = folder / "a b\tc\\d ä"
    path.mkdir()
    yield str(path)
    while mounts.state(str(path)).mounted:
        subprocess.run(["umount", str(path)], check=True)


def mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True)


def test_an_empty_directory_has_no_mount(point, formatted):
    state = mounts.state(point, formatted)
    assert (state.mounted, state.right, state.stacked, state.top) == (False, False, False, None)


def test_a_mount_of_the_wanted_device_is_right(point, formatted, folder):
    mount("-o", "noatime", formatted, point)
    state = mounts.state(point, formatted)
    assert (state.mounted, state.right, state.stacked) == (True, True, False)
    assert (state.top.path, state.top.fstype, state.top.source) == (point, "ext4", formatted)
    assert "noatime" in state.top.options.split(",")
    (folder / "link").symlink_to(point)
    assert mounts.state(str(folder / "link"), formatted).right
    assert [found.path for found in mounts.of_device(formatted)] == [point]


def test_a_mount_by_systemd_at_the_same_moment_is_no_error(point, formatted, monkeypatch):
    """systemd has waited for the device since boot, and may be first; that is no error."""
    ours = commands.run

    def run(*arguments, **options):
        mount(formatted, point)
        return ours(*arguments, **options)

    monkeypatch.setattr(mounting.commands, "run", run)
    mounting.mount(formatted, point, "ext4", "defaults", timeout=30)
    assert mounts.state(point, formatted).right
    assert not mounts.state(point, formatted).stacked


def test_a_device_that_is_in_use_is_not_mounted(point, formatted, monkeypatch):
    monkeypatch.setattr(mounting, "_MEANWHILE", 0)
    fd = os.open(formatted, os.O_RDONLY | os.O_EXCL)
    try:
        with pytest.raises(FailedPreconditionError, match="could not be mounted"):
            mounting.mount(formatted, point, "ext4", "defaults", timeout=30)
    finally:
        os.close(fd)


def test_r27_the_name_of_the_device_does_not_matter(point, formatted, folder):
    (folder / "by-id").symlink_to(formatted)
    mount(str(folder / "by-id"), point)
    assert mounts.state(point, formatted).right
    assert mounts.state(point, str(folder / "by-id")).right


def test_a_mount_of_another_device_is_wrong(point, formatted, make_file):
    other = loop.attach(str(make_file("other", GIB)), "test")
    try:
        mount(formatted, point)
        state = mounts.state(point, other)
        assert (state.mounted, state.right) == (True, False)
        assert not mounts.state(point, "/dev/no-such-device").right
    finally:
        let_go(other)


def test_r23_a_mount_over_ours_hides_it(point, formatted):
    mount(formatted, point)
    mount("-t", "tmpfs", "tmpfs", point)
    state = mounts.state(point, formatted)
    assert (state.right, state.stacked, state.top.fstype) == (False, True, "tmpfs")


def test_a_bind_mount_of_a_part_is_not_the_volume(point, formatted, folder):
    whole = folder / "whole"
    whole.mkdir()
    mount(formatted, str(whole))
    try:
        (whole / "part").mkdir()
        mount("--bind", str(whole / "part"), point)
        state = mounts.state(point, formatted)
        assert (state.mounted, state.right, state.top.root) == (True, False, "/part")
        assert len(mounts.of_device(formatted)) == 2
    finally:
        subprocess.run(["umount", point], check=True)
        subprocess.run(["umount", str(whole)], check=True)
