"""The sparse files of the file driver, whole or not there; and its refusals."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path

import pytest

from saltstorage.drivers.files import sparse
from tests import needs

UTILS = Path(__file__).parents[3] / "_utils"
MIB = 2**20


def test_create_is_sparse_and_private(tmp_path):
    path = tmp_path / "volume-1"
    sparse.create(path, 10 * 2**40)
    info = path.stat()
    assert (info.st_size, info.st_blocks, info.st_mode & 0o777) == (10 * 2**40, 0, 0o600)
    with pytest.raises(FileExistsError):
        sparse.create(path, 1)
    assert info.st_size == path.stat().st_size


def test_grow_never_shrinks(tmp_path):
    path = tmp_path / "volume-1"
    sparse.create(path, 3 * MIB)
    sparse.grow(path, 2 * MIB)
    assert path.stat().st_size == 3 * MIB
    sparse.grow(path, 4 * MIB)
    assert path.stat().st_size == 4 * MIB


def test_copy_keeps_data_and_holes(tmp_path):
    source, target = tmp_path / "volume-1", tmp_path / "volume-2"
    sparse.create(source, 64 * MIB)
    with source.open("r+b") as file:
        for offset in (0, 10 * MIB + 4096, 63 * MIB):
            file.seek(offset)
            file.write(os.urandom(MIB // 2))
    sparse.copy(source, target, 80 * MIB, spare=2**40)
    with source.open("rb") as one, target.open("rb") as two:
        assert one.read() == two.read(64 * MIB)
    info = target.stat()
    assert info.st_size == 80 * MIB
    assert info.st_blocks * 512 < 3 * MIB
    assert info.st_mode & 0o777 == 0o600


@pytest.mark.parametrize(("size", "spare"), [(0, 0), (1, 0)])
def test_copy_of_an_empty_file(tmp_path, size, spare):
    sparse.create(tmp_path / "volume-1", size * MIB)
    sparse.copy(tmp_path / "volume-1", tmp_path / "volume-2", size * MIB, spare=spare)
    assert (tmp_path / "volume-2").stat().st_size == size * MIB


def reflinks(directory: Path) -> bool:
    (directory / "a").write_bytes(b"x" * 4096)
    with (directory / "a").open("rb") as one, (directory / "b").open("wb") as two:
        return sparse.reflink(one.fileno(), two.fileno())


@pytest.fixture
def memory():
    """A folder on a file system that shares no blocks."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        yield Path(folder)


def test_copy_that_does_not_fit_leaves_nothing(tmp_path, request):
    probe = tmp_path / "probe"
    probe.mkdir()
    if reflinks(probe):  # there, every copy fits
        tmp_path = request.getfixturevalue("memory")
    (tmp_path / "volume-1").write_bytes(b"x" * MIB)
    with pytest.raises(sparse.NoRoom):
        sparse.copy(tmp_path / "volume-1", tmp_path / "volume-2", MIB, spare=MIB // 2)
    with pytest.raises(sparse.NotAtomic):
        sparse.copy(tmp_path / "volume-1", tmp_path / "volume-2", MIB, spare=2**40, atomic=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["probe", "volume-1"]


def test_remove_can_be_repeated(tmp_path):
    path = tmp_path / "volume-1"
    sparse.create(path, MIB)
    sparse.remove(path)
    sparse.remove(path)
    assert list(tmp_path.iterdir()) == []


def test_killed_while_copying_leaves_nothing_that_looks_whole(tmp_path):
    """A killed copy's file has no volume's name, and the next start removes it; a living copy's
    file is left alone.
    """
    code = """
        import sys, time
        from pathlib import Path
        from saltstorage.drivers.files import sparse
        with sparse.make_whole(Path(sys.argv[1])) as file:
            print("ready", flush=True)
            time.sleep(60)
    """
    target = tmp_path / "volume-1"
    command = [sys.executable, "-c", textwrap.dedent(code), str(target)]
    with subprocess.Popen(command, env={"PYTHONPATH": str(UTILS)}, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        sparse.remove_leftovers(tmp_path)
        assert len(list(tmp_path.iterdir())) == 1
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert not target.exists()
    assert len(list(tmp_path.iterdir())) == 1
    sparse.remove_leftovers(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def xfs(tmp_path):
    """A small mounted XFS, which shares blocks between copies."""
    needs.root()
    needs.filesystem("xfs")
    image, folder = tmp_path / "image", tmp_path / "mounted"
    sparse.create(image, 320 * MIB)
    folder.mkdir()
    subprocess.run(["mkfs.xfs", "-q", "-m", "reflink=1", str(image)], check=True)
    subprocess.run(["mount", "-o", "loop", str(image), str(folder)], check=True)
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.root
def test_copies_share_blocks_on_xfs(xfs):
    """A copy at one moment, which needs no room."""
    source, target = xfs / "volume-1", xfs / "volume-2"
    source.write_bytes(os.urandom(8 * MIB))
    sparse.copy(source, target, 16 * MIB, spare=0, atomic=True)
    with source.open("r+b") as file:
        file.write(b"changed")
    assert target.stat().st_size == 16 * MIB
    assert target.read_bytes()[:7] != b"changed"
    assert [path.name for path in sorted(xfs.iterdir())] == ["volume-1", "volume-2"]


@pytest.mark.root
def test_a_file_under_a_loop_device_is_known(tmp_path):
    path = tmp_path / "volume-1"
    sparse.create(path, MIB)
    assert not sparse.has_loop_device(path)
    device = subprocess.run(["losetup", "--find", "--show", str(path)], check=True, capture_output=True, text=True).stdout.strip()
    try:
        assert sparse.has_loop_device(path)
    finally:
        subprocess.run(["losetup", "--detach", device], check=True)
    deadline = time.monotonic() + 5  # the kernel lets go of it a moment later
    while sparse.has_loop_device(path) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not sparse.has_loop_device(path)


def test_the_lock_is_on_the_partial_file(tmp_path):
    with sparse.make_whole(tmp_path / "volume-1") as file, (tmp_path / ".volume-1.partial").open("rb") as other:
        with pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(file, 1)


@pytest.mark.root
def test_a_loop_device_over_a_file_with_any_name_disturbs_nobody(tmp_path):
    """Another user's file may have a name that is no UTF-8; and a file is known by its inode, not
    by its path.
    """
    odd = os.fsencode(tmp_path) + b"/\xff\xfe"
    with open(odd, "wb") as file:
        file.truncate(MIB)
    path, moved = tmp_path / "volume-1", tmp_path / "volume-2"
    sparse.create(path, MIB)
    devices = []
    try:
        for file in (odd, os.fsencode(path)):
            command = [b"losetup", b"--find", b"--show", file]
            devices.append(subprocess.run(command, check=True, capture_output=True).stdout.decode().strip())
        assert sparse.has_loop_device(path)
        path.rename(moved)
        sparse.create(path, MIB)
        assert sparse.has_loop_device(moved)
        assert not sparse.has_loop_device(path)
    finally:
        for device in devices:
            subprocess.run(["losetup", "--detach", device], check=True)


def test_a_partial_file_taken_away_before_its_lock_is_made_anew(tmp_path, monkeypatch):
    """A cleanup may come between the creation of the file and its lock."""
    real, taken = fcntl.flock, []

    def flock(file, operation):
        if not taken and operation == fcntl.LOCK_EX:
            taken.append(True)
            monkeypatch.setattr(fcntl, "flock", real)
            sparse.remove_leftovers(tmp_path)
            assert list(tmp_path.iterdir()) == []
        real(file, operation)

    monkeypatch.setattr(fcntl, "flock", flock)
    path = tmp_path / "volume-1"
    sparse.create(path, MIB)
    assert taken
    assert path.stat().st_size == MIB
    assert [found.name for found in tmp_path.iterdir()] == ["volume-1"]


def test_a_dead_makers_partial_file_is_emptied(tmp_path):
    (tmp_path / ".volume-1.partial").write_bytes(b"old" * 1000)
    sparse.create(tmp_path / "volume-1", MIB)
    assert (tmp_path / "volume-1").read_bytes() == bytes(MIB)
    assert [found.name for found in tmp_path.iterdir()] == ["volume-1"]
