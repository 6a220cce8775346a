from __future__ import annotations

import subprocess

from saltstorage.consumer.devices import loop, mounts
from tests.loops import let_go
from tests.unit.consumer.helpers import GIB, mount


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
