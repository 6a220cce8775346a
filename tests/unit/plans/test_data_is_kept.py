"""Data is never lost or overwritten, after any failure."""

from __future__ import annotations

import fcntl
import os
import struct
import subprocess
from pathlib import Path

import pytest

from saltstorage.consumer.filesystems import mkfs, mounting
from saltstorage.errors import UnavailableError
from saltstorage.flow.flow import Flow
from saltstorage.flow.formatting import make_file_system
from tests.unit.plans.minion import check_result, ok

pytestmark = pytest.mark.root


class KilledError(BaseException):
    """Stands for SIGKILL: nothing handles it."""


def device(host):
    return os.path.realpath(host.folder / "dev" / "data")


def write(host):
    Path(host.mount_point, "file").write_text("kept")


def read(host):
    return Path(host.mount_point, "file").read_text()


def killed(monkeypatch, target, name):
    def die(*args, **kwargs):
        raise KilledError

    monkeypatch.setattr(target, name, die)


def test_killed_after_mkfs_then_used(host, monkeypatch):
    ok(host.state("connected", size=1))
    with monkeypatch.context() as patch:
        killed(patch, host.flow.consumer.__class__, "end_format")
        with pytest.raises(KilledError):
            host.mounted()
    os.makedirs(host.mount_point, exist_ok=True)
    subprocess.run(["mount", device(host), host.mount_point], check=True)
    write(host)
    ok(host.mounted())
    ok(host.state("unmounted"))
    again = host.mounted()
    assert again["result"] is True, again
    assert read(host) == "kept"


def test_a_file_system_that_has_stopped_is_told(host):
    """As XFS stops after an error of the storage: the mount is there, and all access fails."""
    ok(host.mounted())
    fd = os.open(host.mount_point, os.O_RDONLY)
    fcntl.ioctl(fd, mounting._GOING_DOWN, struct.pack("I", mounting._NO_LOG_FLUSH))
    os.close(fd)
    done = host.mounted()
    assert done["result"] is False, done
    assert "has stopped (Input/output error)" in done["comment"]
    ok(host.state("unmounted"))
    ok(host.mounted())


def test_killed_within_mkfs_is_made_again(host, monkeypatch):
    ok(host.state("connected", size=1))
    with monkeypatch.context() as patch:
        killed(patch, mkfs.commands, "run")
        with pytest.raises(KilledError):
            make_file_system(host.flow, "web1", "data", "xfs", [])
    # An interrupted mkfs leaves parts without a signature.
    with open(device(host), "r+b") as file:
        file.write(b"\1" * 4096)
        file.flush()
        os.fsync(file.fileno())
    done = host.mounted()
    assert done["result"] is True, done
    assert done["changes"]["filesystem"]["new"] == "xfs"


def test_data_written_before_mkfs_was_ever_allowed_is_kept(host, monkeypatch):
    ok(host.state("connected", size=1))
    with monkeypatch.context() as patch:

        def lost(self, op, args):
            raise UnavailableError("no storage controller answers")

        patch.setattr(Flow, "ask", lambda self, op, args: lost(self, op, args) if op == "mark_formatted" else ask(self, op, args))
        check_result(host.mounted(), False)
    with open(device(host), "r+b") as file:
        file.write(b"raw data")
        os.fsync(file.fileno())
    for _ in range(2):
        check_result(host.mounted(), False)
    with open(device(host), "rb") as file:
        assert file.read(8) == b"raw data"


ask = Flow.ask


def test_another_host_formatted_the_shared_volume_meanwhile(hosts, monkeypatch):
    first, second = hosts("web1"), hosts("web2")
    first.service.call("create", {"name": "data", "size": 1, "owner": "shared"}, _admin())
    ok(first.state("connected", owner="shared"))
    with monkeypatch.context() as patch:
        killed(patch, Flow, "ask")
        with pytest.raises(KilledError):
            make_file_system(first.flow, "shared", "data", "xfs", [])
    # The first is taken for dead, and comes back.
    first.service.call("disconnect", {"name": "data", "owner": "shared", "host": "web1", "fenced": True}, _admin())
    done = second.mounted(owner="shared", size=None)
    assert done["result"] is True, done
    write(second)
    assert first.mounted(owner="shared", size=None)["comment"].startswith("FAILED_PRECONDITION")
    assert read(second) == "kept"
    found = subprocess.run(["blkid", "-p", "-o", "value", "-s", "UUID", device(second)], capture_output=True, text=True, check=True)
    assert found.stdout.strip()


def _admin():
    from saltstorage.controller.operations.core import Caller

    return Caller()


def test_a_mount_of_somebody_else_over_ours_stays(host):
    ok(host.mounted())
    subprocess.run(["mount", "-t", "tmpfs", "none", host.mount_point], check=True)
    Path(host.mount_point, "theirs").write_text("kept")
    for function in ("unmounted", "disconnected"):
        done = host.state(function)
        assert done["result"] is False, done
        assert done["comment"].startswith("FAILED_PRECONDITION")
    assert Path(host.mount_point, "theirs").read_text() == "kept"


@pytest.mark.parametrize("test", [True, False])
def test_a_table_that_cannot_be_written_is_noticed_before_a_volume_is_created(host, test):
    etc = host.folder / "etc"
    etc.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "none", str(etc)], check=True)
    host.opts["storage"]["consumer"]["fstab"] = str(etc / "fstab")
    done = check_result(host.mounted(test=test), False)
    assert "FAILED_PRECONDITION" in done["comment"]
    assert str(etc) in done["comment"]
    assert done["changes"] == {}
    assert not list((host.root / "volumes").glob("volume-*"))


def test_a_line_of_another_device_in_fstab_is_refused_first_and_always(host):
    Path(host.folder, "fstab").write_text(f"/dev/other {host.mount_point} xfs defaults 0 0\n")
    for test in (True, False, False):
        done = host.mounted(test=test)
        assert (done["result"], done["changes"]) == (False, {}), done
        assert "/dev/other" in done["comment"]
    assert not os.path.ismount(host.mount_point)


def test_c12_unmounted_by_hand_and_wanted_elsewhere_is_mounted_there_alone(host):
    """At the next boot, too."""
    ok(host.mounted())
    table, elsewhere = Path(host.folder, "fstab"), str(host.folder / "elsewhere")
    # Somebody's own, of another part of the file system; and a place that is still in use.
    theirs = f"{host.folder}/dev/data {host.folder}/theirs xfs noauto 0 0\n"
    table.write_text(theirs + table.read_text())
    refused = host.mounted(mount=elsewhere)
    assert refused["comment"].startswith("ALREADY_EXISTS"), refused
    subprocess.run(["umount", host.mount_point], check=True)
    assert host.mounted(mount=elsewhere, test=True)["changes"] == {"mount": {"old": None, "new": elsewhere}}
    done = host.mounted(mount=elsewhere)
    assert done["changes"]["fstab"] == {"old": host.mount_point, "new": elsewhere}
    assert [line.split()[1] for line in table.read_text().splitlines()] == [f"{host.folder}/theirs", elsewhere]
    assert ok(host.mounted(mount=elsewhere))["changes"] == {}
    # A line that an earlier version left is found, too.
    table.write_text(table.read_text() + table.read_text().splitlines()[1].replace(elsewhere, host.mount_point) + "\n")
    for test in (True, False):
        assert host.mounted(mount=elsewhere, test=test)["changes"] == {"fstab": {"old": host.mount_point, "new": elsewhere}}
    assert [line.split()[1] for line in table.read_text().splitlines()] == [f"{host.folder}/theirs", elsewhere]


def test_in_use_is_refused_before_anything_is_unmounted(host):
    ok(host.mounted())
    with open(Path(host.mount_point, "file"), "w"):
        process = subprocess.Popen(["sleep", "infinity"], cwd=host.mount_point)
        try:
            for test in (True, False):
                done = host.state("disconnected", test=test)
                assert (done["result"], done["changes"]) == (False, {}), done
                assert f"process {process.pid}" in done["comment"]
            assert os.path.ismount(host.mount_point)
            assert host.mount_point in Path(host.folder, "fstab").read_text()
        finally:
            process.kill()
            process.wait()


@pytest.mark.parametrize("propagation", ["shared", "slave"])
def test_a_mount_goes_with_its_copies_in_a_shared_bind_mount(host, propagation):
    """As in that of an export: a mount below a folder appears below its bind mount too."""
    folder, export = host.folder / "srv", host.folder / "export"
    folder.mkdir()
    export.mkdir()
    for command in (
        ["mount", "--bind", folder, folder],
        ["mount", "--make-shared", folder],
        ["mount", "--bind", folder, export],
        ["mount", f"--make-{propagation}", export],
    ):
        subprocess.run(command, check=True)
    try:
        ok(host.mounted(mount=str(folder / "data")))
        assert os.path.ismount(export / "data")
        assert ok(host.mounted(mount=str(folder / "data")))["changes"] == {}
        ok(host.state("unmounted"))
        assert not os.path.ismount(folder / "data")
        assert not os.path.ismount(export / "data")
    finally:
        for path in (export / "data", folder / "data", export, folder):
            subprocess.run(["umount", path], check=False, stderr=subprocess.DEVNULL)


def test_a_dry_run_tells_of_another_file_system(host):
    ok(host.state("connected", size=1))
    subprocess.run(["mkfs.xfs", "-q", device(host)], check=True)
    for test in (True, False):
        done = host.mounted(fstype="ext4", test=test)
        assert done["result"] is False, done
        assert done["comment"].startswith("ALREADY_EXISTS")


def test_a_mount_point_that_is_a_file(host):
    Path(host.mount_point).write_text("")
    for test in (True, False):
        done = host.mounted(test=test)
        assert done["result"] is False, done
        assert done["comment"].startswith("INVALID_ARGUMENT")
    assert host.state("absent")["comment"] == "Volume 'data' is already absent."


def test_u11_half_attached_is_told_as_a_change(host, monkeypatch):
    with monkeypatch.context() as patch:
        from saltstorage.consumer.connectors import brick

        killed(patch, brick.Brick, "connect")
        with pytest.raises(KilledError):
            host.state("connected", size=1)
    check_result(host.state("disconnected", test=True), None)
    assert ok(host.state("disconnected"))["changes"]
    assert ok(host.state("disconnected"))["changes"] == {}


def test_a_volume_beside_a_shared_one_of_its_name(host):
    host.service.call("create", {"name": "data", "size": 1, "owner": "shared"}, _admin())
    ok(host.state("connected", owner="shared"))
    assert ok(host.state("present", size=3))["changes"]
    assert ok(host.state("present", size=3))["changes"] == {}


def test_ext4_grows_while_it_is_not_mounted(host):
    ok(host.mounted(fstype="ext4"))
    write(host)
    ok(host.state("unmounted"))
    done = host.mounted(fstype="ext4", size=2)
    assert done["result"] is True, done
    assert os.statvfs(host.mount_point).f_blocks * os.statvfs(host.mount_point).f_frsize > 1.8 * 2**30
    assert read(host) == "kept"


@pytest.mark.alone  # a number is freed and taken again
@pytest.mark.parametrize("function", ["connected", "unmounted", "disconnected"])
def test_c10_a_stranger_that_has_our_loop_device_number_keeps_its_device(host, tmp_path, function):
    """Ours went away and somebody else was given its number, and has mounted what is there now."""
    ok(host.state("connected", size=1))
    number, theirs = device(host), tmp_path / "theirs"
    theirs.mkdir()
    with open(tmp_path / "image", "wb") as file:
        file.truncate(64 << 20)
    subprocess.run(["mkfs.ext4", "-q", tmp_path / "image"], check=True)
    subprocess.run(["losetup", "--detach", number], check=True)
    subprocess.run(["losetup", number, tmp_path / "image"], check=True)
    subprocess.run(["mount", number, theirs], check=True)
    try:
        Path(theirs, "file").write_text("kept")
        done = host.mounted() if function == "connected" else host.state(function)
        assert done["result"] is True, done
        if function == "connected":
            assert device(host) != number
            assert set(done["changes"]) == {"path", "mount", "filesystem", "fstab"}, done
            assert ok(host.mounted())["changes"] == {}
        assert Path(theirs, "file").read_text() == "kept"
        assert os.path.ismount(theirs)
    finally:
        subprocess.run(["umount", theirs], check=True)
        subprocess.run(["losetup", "--detach", number], check=True)
