from __future__ import annotations

import os
import signal
import threading

import pytest

from saltstorage.consumer.host.locks import VolumeLocks
from saltstorage.errors import AbortedError


def test_two_threads_take_turns_and_no_file_is_left(tmp_path):
    locks = VolumeLocks(str(tmp_path / "locks"), 10)
    inside, most, total = 0, 0, 0

    def work() -> None:
        nonlocal inside, most, total
        for _ in range(50):
            with locks.hold("data"):
                inside += 1
                most = max(most, inside)
                total += 1
                inside -= 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (most, total) == (1, 200)
    assert os.listdir(tmp_path / "locks") == []


def test_a_thread_may_take_its_lock_again(tmp_path):
    locks = VolumeLocks(str(tmp_path), 0.1)
    with locks.hold("data"), locks.hold("data"):
        pass
    with locks.hold("data"):
        pass


def test_locks_of_different_volumes_are_independent(tmp_path):
    locks = VolumeLocks(str(tmp_path), 0.1)
    with locks.hold("a"), locks.hold("b"):
        assert len(os.listdir(tmp_path)) == 2


def test_the_loser_reads_who_holds_it(tmp_path):
    """Row G4: the loser waits until the timeout, then gets ABORTED with the holder."""
    ready, end = os.pipe()
    child = os.fork()
    if child == 0:
        with VolumeLocks(str(tmp_path), 10).hold("data"):
            os.write(end, b"x")
            signal.pause()
    os.read(ready, 1)
    try:
        with pytest.raises(AbortedError, match=f"process {child}"), VolumeLocks(str(tmp_path), 0.1).hold("data"):
            pass
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    # A killed process holds no lock.
    with VolumeLocks(str(tmp_path), 0.1).hold("data"):
        pass
    assert os.listdir(tmp_path) == []
