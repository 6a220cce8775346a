from __future__ import annotations

import os
import subprocess

import pytest

from saltstorage.consumer.devices import block, holders, loop, mounts
from saltstorage.consumer.devices.probe import probe
from saltstorage.consumer.filesystems import mkfs, resizefs
from saltstorage.consumer.host import commands
from saltstorage.errors import (
    AlreadyExistsError,
    DeadlineExceededError,
    FailedPreconditionError,
    InternalError,
    InvalidArgumentError,
    UnavailableError,
)
from tests import needs
from tests.unit.consumer.helpers import GIB


def available(fstype: str) -> str:
    needs.filesystem(fstype)
    return fstype


@pytest.fixture(params=mkfs.FSTYPES)
def fstype(request):
    return available(request.param)


@pytest.fixture
def mounted(device, folder):
    """Return a function that mounts the device; the end of the test unmounts it."""
    point = folder / "mnt point"
    point.mkdir()

    def mount(*options: str) -> str:
        subprocess.run(["mount", *options, device, str(point)], check=True)
        return str(point)

    yield mount
    while mounts.state(str(point)).mounted:
        subprocess.run(["umount", str(point)], check=True)


def grow(device: str, kind: str, point: str) -> bool:
    """Grow a file system mounted; without CAP_SYS_RESOURCE, grow ext file systems unmounted."""
    if not kind.startswith("ext") or resizefs.may_use_resources():
        return resizefs.grow(device, kind, point)
    with pytest.raises(FailedPreconditionError, match="CAP_SYS_RESOURCE"):
        resizefs.grow(device, kind, point)
    subprocess.run(["umount", point], check=True)
    grown = resizefs.grow(device, kind)
    assert not resizefs.can_grow(device, kind)
    subprocess.run(["mount", device, point], check=True)
    return grown


def test_a_file_system_is_made_mounted_and_grown(device, file, mounted, fstype):
    made = mkfs.make(device, fstype, label="pg data")
    assert (made.fstype, made.label, probe(device)) == (fstype, "pg data", made)
    point = mounted()
    # btrfs has an anonymous device number, so its source counts here.
    assert mounts.state(point, device).right
    assert str(holders.find(device)[0]) == f"mounted on {point}"
    assert not resizefs.can_grow(device, fstype, point)
    if fstype == "vfat":
        with pytest.raises(FailedPreconditionError, match="cannot grow"):
            resizefs.grow(device, fstype, point)
        return
    assert not resizefs.grow(device, fstype, point)
    with open(os.path.join(point, "file"), "w") as handle:
        handle.write("kept")
    before = os.statvfs(point).f_blocks
    os.truncate(file, 3 * GIB)
    loop.refresh_size(device)
    assert resizefs.can_grow(device, fstype, point)
    assert grow(device, fstype, point)
    # A second call finds nothing to do, and runs nothing.
    assert not resizefs.can_grow(device, fstype, point)
    assert not resizefs.grow(device, fstype, point)
    assert os.statvfs(point).f_blocks > 2 * before
    assert block.size(device) == 3 * GIB
    with open(os.path.join(point, "file")) as handle:
        assert handle.read() == "kept"


def test_an_ext_file_system_grows_unmounted_and_others_refuse(device, file):
    mkfs.make(device, "ext4")
    assert not resizefs.grow(device, "ext4")
    os.truncate(file, 2 * GIB)
    loop.refresh_size(device)
    assert resizefs.can_grow(device, "ext4")
    assert resizefs.grow(device, "ext4")
    assert not resizefs.can_grow(device, "xfs")
    with pytest.raises(FailedPreconditionError, match="only when it is mounted"):
        resizefs.grow(device, "xfs")


@pytest.mark.parametrize("size", [1, 2, 3, 5, 8, 16, 33])
@pytest.mark.parametrize("kind", ["ext4", "xfs"])
def test_a_grown_file_system_is_not_grown_again(device, file, mounted, kind, size):
    """For each size, a rest at the end of the device must not look like room to grow."""
    mkfs.make(device, available(kind))
    point = mounted()
    os.truncate(file, size * GIB)
    loop.refresh_size(device)
    if size == 1:
        assert not resizefs.grow(device, kind, point)
    else:
        assert grow(device, kind, point)
    assert not resizefs.can_grow(device, kind, point)


def test_c13_a_file_system_is_never_made_over_another(device):
    mkfs.make(device, "ext4")
    before = probe(device)
    for kind in ("ext4", "ext2", "xfs"):
        with pytest.raises(AlreadyExistsError, match="never formatted again"):
            mkfs.make(device, kind)
    assert probe(device) == before


@pytest.mark.parametrize("what", ["swap", "data"])
def test_c13_a_file_system_is_never_made_over_other_data(device, what):
    if what == "swap":
        subprocess.run(["mkswap", device], check=True, capture_output=True)
    else:
        with open(device, "r+b") as handle:
            handle.write(b"data")
    for resume in (False, True) if what == "swap" else (False,):
        with pytest.raises(FailedPreconditionError, match="not formatted"):
            mkfs.make(device, "ext4", resume=resume)


def test_r19_a_file_system_is_never_made_on_an_unreadable_device(device, file):
    os.truncate(file, 0)
    with pytest.raises(UnavailableError):
        mkfs.make(device, "ext4")


@pytest.mark.parametrize("kind", ["ext4", "xfs"])
def test_an_interrupted_mkfs_is_resumed(device, kind):
    """The record says that this host was formatting.

    The remains of an interrupted mkfs may be overwritten, a finished file system never.
    """
    available(kind)
    with open(device, "r+b") as handle:
        handle.write(b"half a superblock")
    assert mkfs.make(device, kind, resume=True).fstype == kind
    for again in (kind, "ext2"):
        with pytest.raises(AlreadyExistsError):
            mkfs.make(device, again, resume=True)


def test_an_unfinished_xfs_is_made_again(device):
    """mkfs.xfs marks its first superblock as in progress, and clears the mark at the end."""
    available("xfs")
    found = mkfs.make(device, "xfs", options=["-m", "crc=0"])
    assert not mkfs.unfinished(device, found)
    with open(device, "r+b") as handle:
        handle.seek(126)
        handle.write(b"\1")
    assert mkfs.unfinished(device, found)
    with pytest.raises(AlreadyExistsError):
        mkfs.make(device, "xfs")
    made = mkfs.make(device, "xfs", resume=True)
    assert not mkfs.unfinished(device, made)
    assert made.uuid != found.uuid


def test_options_reach_mkfs(device, mounted):
    mkfs.make(device, "ext4", options=["-m", "0", "-N", "2000"])
    facts = os.statvfs(mounted())
    # Without -m 0, 5 % would be reserved; the kernel keeps 4096 blocks for itself.
    assert facts.f_bfree - facts.f_bavail == 4096
    assert facts.f_files < 10000


def test_a_relative_path_in_options_names_nothing_in_the_working_directory(device, tmp_path, monkeypatch):
    """In /dev, each name is a device.

    Here, mke2fs would fill the file system from a folder of the working directory.
    """
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InternalError, match="No such file or directory"):
        mkfs.make(device, "ext4", options=["-d", "other"])


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"fstype": "ntfs"}, "fstype"),
        ({"fstype": "ext4; rm"}, "fstype"),
        ({"fstype": "ext4", "options": "-m 0"}, "mkfs_options"),
        ({"fstype": "ext4", "options": [0]}, "mkfs_options"),
        ({"fstype": "btrfs", "options": ["-f", "/dev/other"]}, "mkfs_options"),
        ({"fstype": "btrfs", "options": ["-f", "dev/other"]}, "mkfs_options"),
        ({"fstype": "ext4", "options": ["-Jdevice=LABEL=journal"]}, "mkfs_options"),
        ({"fstype": "xfs", "options": ["-l", "size=64m,logdev=other"]}, "mkfs_options"),
        ({"fstype": "xfs", "options": ["-d", "file = 1, name = other"]}, "mkfs_options"),
        ({"fstype": "ext4", "label": "x" * 17}, "label"),
        ({"fstype": "xfs", "label": "ä" * 7}, "label"),
        ({"fstype": "ext4", "label": ""}, "label"),
    ],
)
def test_bad_arguments_are_refused_and_nothing_is_written(device, arguments, field):
    with pytest.raises(InvalidArgumentError) as caught:
        mkfs.make(device, **arguments)
    assert caught.value.field == field
    assert probe(device).empty


def test_g8_a_missing_mkfs_is_named_with_its_package(device, tmp_path, monkeypatch):
    with monkeypatch.context() as without:
        without.setattr(commands, "SEARCH", str(tmp_path))
        with pytest.raises(FailedPreconditionError, match="btrfs-progs"):
            mkfs.make(device, "btrfs")
    assert probe(device).empty


def test_r24_a_command_that_hangs_names_its_step():
    with pytest.raises(DeadlineExceededError, match=r"cannot wait: sleep did not end within 0.05 s"):
        commands.run("wait", ["sleep", "60"], timeout=0.05)
