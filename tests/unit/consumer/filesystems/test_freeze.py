"""Freezing real file systems: writers wait, and go on in every case, also after a kill."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from saltstorage.consumer.devices import mounts
from saltstorage.consumer.filesystems import freeze, mounting
from saltstorage.errors import DeadlineExceededError, FailedPreconditionError

pytestmark = pytest.mark.root


@pytest.fixture(params=["xfs", "ext4"])
def point(request, tmp_path):
    """A mounted file system on a loop device."""
    image, path = tmp_path / "image", tmp_path / "mount 'point'"
    image.touch()
    os.truncate(image, 400 << 20)
    subprocess.run([f"mkfs.{request.param}", "-q", str(image)], check=True)
    path.mkdir()
    device = subprocess.run(["losetup", "--find", "--show", str(image)], check=True, capture_output=True, text=True).stdout.strip()
    # A former user may have set it read-only.
    subprocess.run(["blockdev", "--setrw", device], check=True)
    try:
        subprocess.run(["mount", device, str(path)], check=True)
        yield str(path)
        # A watchdog without a word from its caller ends by itself, just after it has thawed.
        deadline = time.monotonic() + 10
        while (users := mounting.users(str(path))) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert users == []
        left = freeze.thaw([str(path)])
        subprocess.run(["umount", str(path)], check=True)
        assert left == [], "it was left frozen"
    finally:
        subprocess.run(["losetup", "--detach", device], check=True)


class Writer(threading.Thread):
    """Writes a file, and then sets ``wrote``."""

    def __init__(self, point):
        super().__init__(daemon=True)
        self.path = Path(point, "written")
        self.wrote = threading.Event()
        self.start()

    def run(self):
        self.path.write_text("x")
        self.wrote.set()

    def waits(self):
        """Return whether the write is blocked in the kernel.

        Nothing else keeps a thread of this test in the state D.
        """
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline and not self.wrote.is_set():
            if Path(f"/proc/self/task/{self.native_id}/stat").read_text().rpartition(")")[2].split()[0] == "D":
                return True
            time.sleep(0.01)
        return False


def hold(point, seconds=30.0):
    return freeze.frozen([point], seconds=seconds, patience=30.0)


def test_writes_wait_until_the_thaw(point):
    with hold(point) as frozen:
        writer = Writer(point)
        assert writer.waits()
        assert frozen.thaw() is True
        assert writer.wrote.wait(10)
    assert frozen.held


def test_an_error_within_thaws(point):
    writers = []

    def fail():
        with hold(point):
            writers.append(Writer(point))
            assert writers[0].waits()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert writers[0].wrote.wait(10)


def test_the_watchdog_thaws_when_the_time_is_over(point):
    with hold(point, seconds=0.5) as frozen:
        writer = Writer(point)
        assert writer.wrote.wait(10), "the watchdog thaws while this process does nothing"
        assert frozen.thaw() is False
    assert frozen.held is False


def test_a_file_system_is_frozen_once_and_several_all_or_none(point, tmp_path):
    with hold(point) as frozen:
        with pytest.raises(FailedPreconditionError, match="frozen already"), hold(point):
            pytest.fail("frozen twice")
        writer = Writer(point)
        assert writer.waits(), "the refused one did not thaw it"
        assert frozen.thaw()
    with pytest.raises(FailedPreconditionError, match="/proc cannot be frozen"), freeze.frozen([point, "/proc"], seconds=9, patience=9):
        pytest.fail("/proc frozen")
    assert freeze.thaw([point]) == [], "the first was thawed when the second could not be frozen"


def test_a_missing_mount_point_is_named(tmp_path):
    with pytest.raises(FailedPreconditionError, match="No such file"), freeze.frozen([str(tmp_path / "no")], seconds=9, patience=9):
        pytest.fail("frozen")


def test_a_file_system_frozen_by_others_is_left_to_storage_thaw(point):
    subprocess.run(["fsfreeze", "--freeze", point], check=True)
    with pytest.raises(FailedPreconditionError, match=r"storage\.thaw"), hold(point):
        pytest.fail("frozen twice")
    assert freeze.thaw([point]) == [point]


CALLER = """
import sys
from saltstorage.consumer.filesystems import freeze
with freeze.frozen([sys.argv[1]], seconds=120, patience=30) as hold:
    print(hold.pid, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def caller(point):
    """A process that keeps the file system frozen, and the pid of its watchdog."""
    process = subprocess.Popen(
        [sys.executable, "-c", CALLER, point],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(freeze.__file__).parents[3])},
        start_new_session=True,
    )
    yield process, int(process.stdout.readline())
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        pipe.close()


@pytest.mark.parametrize("who", ["caller", "its group", "watchdog by SIGTERM", "watchdog"])
def test_a_kill_of_the_caller_or_the_watchdog_thaws(point, caller, who):
    process, watchdog = caller
    writer = Writer(point)
    assert writer.waits()
    if who == "caller":
        process.kill()
    elif who == "its group":
        os.killpg(process.pid, signal.SIGKILL)
    elif who == "watchdog by SIGTERM":
        os.kill(watchdog, signal.SIGTERM)
    else:
        os.kill(watchdog, signal.SIGKILL)
        process.stdin.close()  # its block ends
    assert writer.wrote.wait(20)


def test_a_dead_caller_is_noticed_while_its_child_keeps_the_pipes(point, tmp_path):
    """A fork of the caller has all its pipes, so a pipe does not show the caller's death."""
    code = CALLER.replace("    print(", "    import os, time\n    if os.fork() == 0: time.sleep(60), os._exit(0)\n    print(")
    process = subprocess.Popen(
        [sys.executable, "-c", code, point],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(freeze.__file__).parents[3])},
        start_new_session=True,
    )
    process.stdout.readline()
    writer = Writer(point)
    assert writer.waits()
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert writer.wrote.wait(20)
    os.killpg(process.pid, signal.SIGKILL)
    for pipe in (process.stdin, process.stdout):
        pipe.close()


def test_a_caller_that_dies_before_the_freeze_is_noticed(point):
    """A watchdog whose caller is gone by the time the kernel has frozen thaws at once."""
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", freeze.freezer.__file__, "120", "1", point], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    out, _ = process.communicate(timeout=30)
    assert out.split() == [b"frozen", b"late"]


def test_a_freeze_that_takes_too_long_is_given_up_and_undone(point, tmp_path, monkeypatch):
    """A watchdog that hangs before it has frozen is abandoned, and freezes nothing later."""
    slow = tmp_path / "slow.py"
    slow.write_text(f"import runpy, sys\nsys.stdin.read()\nrunpy.run_path({freeze.freezer.__file__!r}, run_name='__main__')\n")
    monkeypatch.setattr(freeze.freezer, "__file__", str(slow))
    with (
        pytest.raises(DeadlineExceededError, match="could not be frozen"),
        freeze.frozen([point], seconds=30, patience=0.0),
    ):
        pytest.fail("frozen")
    writer = Writer(point)
    assert writer.wrote.wait(20)


def test_a_mount_that_another_hides_is_not_frozen_by_its_path(point, tmp_path):
    found = [m for m in mounts.read() if m.path == point]
    assert freeze.mount_point(found) == point
    subprocess.run(["mount", "-t", "tmpfs", "none", point], check=True)
    try:
        assert freeze.mount_point(found) is None
    finally:
        subprocess.run(["umount", point], check=True)
