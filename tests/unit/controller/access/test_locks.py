"""Locks between the processes of one master: a caller that waits reads whom it waits for."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from saltstorage.controller.access.locks import BUCKETS, Locks, owner_key, volume_key
from saltstorage.errors import AbortedError

KEY = volume_key("web1", "data")
HOLD = """
import sys
from saltstorage.controller.access.locks import Locks
with Locks(sys.argv[1], 1).held(sys.argv[2], why="the move of 'data', asked for by root"):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def locks(tmp_path):
    locks = Locks(f"file://{tmp_path}/locks", 1)
    yield locks
    locks.close()


@pytest.fixture
def other(tmp_path):
    """A process that holds the lock of a volume."""
    command = [sys.executable, "-W", "ignore", "-c", HOLD, f"file://{tmp_path}/locks", KEY]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
    assert process.stdout.readline() == b"held\n"
    yield process
    process.kill()
    process.communicate()


def busy(locks):
    with pytest.raises(AbortedError) as caught, locks.held(KEY, why="a deletion", timeout=0):
        pass
    return caught.value.message


def test_g4_the_holder_in_another_process_is_named(locks, other):
    assert "busy: the move of 'data', asked for by root has held it" in busy(locks)


def test_g4_a_holder_that_was_killed_is_no_holder(locks, other):
    other.kill()
    other.wait()
    with locks.held(KEY, why="a deletion", timeout=0):
        pass


def test_a_released_lock_leaves_no_holder_file(locks, tmp_path):
    with locks.held(KEY, why="a deletion"):
        (holder,) = (tmp_path / "locks").glob("*.holder")
        assert (holder.read_text(), holder.stat().st_mode & 0o777) == ("a deletion", 0o600)
    assert list((tmp_path / "locks").glob("*.holder")) == []


def test_a_holder_without_a_readable_reason_still_holds(locks, other, tmp_path):
    (holder,) = (tmp_path / "locks").glob("*.holder")
    holder.unlink()
    assert "another process of the controller" in busy(locks)


def test_one_owners_volumes_have_a_bounded_number_of_locks():
    """Volumes of different owners never share a lock, nor do shared volumes."""
    names = [f"v{number}" for number in range(5000)]
    assert len({volume_key("web1", name) for name in names}) <= BUCKETS
    assert not {volume_key("web1", name) for name in names} & {volume_key("web2", name) for name in names}
    assert len({volume_key("shared", name) for name in names}) == len(names)


def test_two_volumes_with_one_lock_are_held_at_once(locks, monkeypatch):
    monkeypatch.setattr("saltstorage.controller.access.locks.BUCKETS", 1)
    with locks.held(volume_key("web1", "a"), volume_key("web1", "b"), why="a copy"), locks.held(owner_key("web1"), why="a look"):
        pass
