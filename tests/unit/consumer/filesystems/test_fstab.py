"""The table of file systems."""

import multiprocessing
import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saltstorage.consumer.filesystems.fstab import Entry, Fstab, boot_options, is_own, parse
from saltstorage.errors import FailedPreconditionError
from tests import needs

SYSTEM = "# <file system> <mount point>\nUUID=1-2 / ext4 errors=remount-ro 0 1\n\n/dev/sr0\t/media/cdrom0 udf,iso9660 user,noauto\n"


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "fstab"
    path.write_text(SYSTEM)
    return Fstab(str(path))


def entry(**changes):
    return Entry(**{"device": "/dev/storage/data", "mount_point": "/srv/data", "fstype": "ext4", "options": "defaults,_netdev", **changes})


def read(table):
    with open(table.path, encoding="utf-8", errors="surrogateescape") as file:
        return file.read()


def test_set_adds_a_line_and_leaves_the_rest(table):
    assert table.set(entry())
    assert read(table) == SYSTEM + "/dev/storage/data\t/srv/data\text4\tdefaults,_netdev\t0\t0\n"
    assert table.find("/srv/data") == entry()


def test_set_again_changes_nothing(table):
    table.set(entry())
    inode = os.stat(table.path).st_ino
    assert not table.set(entry())
    assert os.stat(table.path).st_ino == inode


def test_set_replaces_changed_options_in_place_and_drops_doubles(table):
    with open(table.path, "a") as file:
        file.write("/dev/storage/data /srv/data ext4 noatime\n/dev/x /x ext4 defaults 0 0\n/dev/storage/data /srv/data ext4 ro\n")
    assert table.set(entry())
    assert read(table) == SYSTEM + entry().line() + "\n/dev/x /x ext4 defaults 0 0\n"


def test_a_mount_point_of_another_device_is_refused_and_kept(table):
    before = read(table)
    with pytest.raises(FailedPreconditionError, match="UUID=1-2 at /"):
        table.set(entry(mount_point="/"))
    assert read(table) == before


def test_set_replaces_the_entries_of_former_mount_points(table):
    before = table.all()
    options = boot_options("defaults")
    old = Entry(device="/dev/storage/x", mount_point="/srv/old", fstype="xfs", options=options)
    assert is_own(old)
    assert not any(is_own(entry) for entry in before)
    new = Entry(device="/dev/storage/x", mount_point="/srv/new", fstype="xfs", options=options)
    table.set(old)
    assert table.set(new, [old])
    assert table.all() == [*before, new]
    assert not table.set(new, [old])


def test_remove_takes_only_our_line(table):
    table.set(entry())
    assert table.remove("/srv/data", "/dev/storage/data")
    assert read(table) == SYSTEM
    assert not table.remove("/srv/data", "/dev/storage/data")
    assert not table.remove("/", "/dev/storage/data")


def test_a_missing_newline_at_the_end_is_added(tmp_path):
    path = tmp_path / "fstab"
    path.write_text("/dev/x /x ext4 defaults 0 0")
    Fstab(str(path)).set(entry())
    assert path.read_text().splitlines() == ["/dev/x /x ext4 defaults 0 0", entry().line()]


def test_mode_and_foreign_bytes_survive(tmp_path):
    path = tmp_path / "fstab"
    path.write_bytes(b"# caf\xe9\n")
    path.chmod(0o600)
    Fstab(str(path)).set(entry())
    assert path.read_bytes().startswith(b"# caf\xe9\n")
    assert path.stat().st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path) == ["fstab"]


def test_a_table_that_does_not_exist_is_made(tmp_path):
    table = Fstab(str(tmp_path / "fstab"))
    assert table.find("/srv/data") is None
    assert table.set(entry())
    assert os.stat(table.path).st_mode & 0o777 == 0o644


def test_a_table_that_cannot_be_written_is_as_it_was(tmp_path):
    table = Fstab(str(tmp_path / "missing" / "fstab"))
    with pytest.raises(FailedPreconditionError, match="as it was"):
        table.set(entry())


@given(st.text(st.characters(exclude_characters="\0/", exclude_categories=["Cs", "Cc"]), min_size=1, max_size=60))
def test_any_name_survives_the_escapes(name):
    line = entry(device=f"/dev/storage/{name}", mount_point=f"/srv/{name}").line()
    assert len(line.split()) == 6
    found = parse(line)
    assert found is not None
    assert found.device == f"/dev/storage/{name}"
    assert found.mount_point == f"/srv/{name}"


def test_boot_options_are_added_once():
    once = boot_options("noatime")
    assert once == "noatime,_netdev,x-systemd.after=salt-storage-reattach.service,x-systemd.device-timeout=10min"
    assert boot_options(once) == once


def test_systemd_mounts_after_the_unit_and_without_requiring_it(tmp_path):
    """One volume that cannot be attached makes the unit fail; the others must be mounted."""
    generator = Path("/usr/lib/systemd/system-generators/systemd-fstab-generator")
    needs.programs(str(generator))
    table, out = Fstab(str(tmp_path / "fstab")), tmp_path / "out"
    table.set(entry(options=boot_options("defaults")))
    out.mkdir()
    subprocess.run([generator, out, out, out], check=True, env={"SYSTEMD_FSTAB": table.path})
    lines = (out / "srv-data.mount").read_text().splitlines()
    assert [line for line in lines if "salt-storage-reattach" in line and not line.startswith("Options=")] == [
        "After=salt-storage-reattach.service"
    ]
    assert "Before=remote-fs.target" in lines
    assert (out / "remote-fs.target.requires" / "srv-data.mount").exists()


def _set_many(arguments):
    path, number = arguments
    table = Fstab(path)
    for count in range(30):
        table.set(entry(device=f"/dev/storage/{number}-{count}", mount_point=f"/srv/{number}-{count}"))
        if count % 2:
            table.remove(f"/srv/{number}-{count - 1}", f"/dev/storage/{number}-{count - 1}")


def test_changes_at_the_same_time_are_all_kept(table, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(table.path)
    with multiprocessing.get_context("fork").Pool(4) as pool:
        pool.map(_set_many, [(table.path if number % 2 else str(link), number) for number in range(4)], chunksize=1)
    for number in range(4):
        assert [table.find(f"/srv/{number}-{count}") is not None for count in range(30)] == [False, True] * 15
    assert read(table).startswith(SYSTEM)
    assert sorted(os.listdir(tmp_path)) == ["fstab", "link"]


def test_a_slash_at_the_end_is_the_same_mount_point(table):
    line = "/dev/storage/data /srv/data/ ext4 defaults,_netdev 0 0\n"
    with open(table.path, "a") as file:
        file.write(line)
    assert table.find("/srv/data") is not None
    assert table.find("/srv//data/") is not None
    assert table.find("/srv/dat") is None
    assert not table.set(entry())
    assert read(table) == SYSTEM + line
    with pytest.raises(FailedPreconditionError, match="another mount point"):
        table.set(entry(device="/dev/storage/other"))
    assert table.set(entry(options="ro"))
    assert read(table) == SYSTEM + entry(options="ro").line() + "\n"
    assert table.remove("/srv/data/", "/dev/storage/data")
    assert read(table) == SYSTEM
