"""Kill the consumer before each change of the machine; a rerun must converge and leave nothing.

An audit hook sees each system call of interest in a forked child, which kills itself before the
n-th, for all n.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from saltstorage.consumer.consumer import Consumer
from tests.unit.consumer.helpers import attach, devices_below, drop

_EVENTS = {"os.rename", "os.remove", "os.symlink", "os.mkdir", "os.truncate", "fcntl.ioctl", "fcntl.flock", "open"}


def run_until(number: int, work: Callable[[], None]) -> bool:
    """Run ``work`` in a child that dies before its n-th event; return whether it was killed."""
    child = os.fork()
    if child == 0:
        count = 0

        def hook(event: str, arguments: tuple[object, ...]) -> None:
            nonlocal count
            if event in _EVENTS and not (event == "open" and not writes(arguments)):
                count += 1
                if count == number:
                    os.kill(os.getpid(), signal.SIGKILL)

        try:
            sys.addaudithook(hook)
            work()
            os._exit(0)
        except BaseException as error:
            os.write(2, f"{type(error).__name__}: {error}\n".encode())
            os._exit(1)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return True
    assert os.WEXITSTATUS(status) == 0
    return False


def writes(arguments: tuple[object, ...]) -> bool:
    flags = arguments[2]
    return isinstance(flags, int) and bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))


@pytest.fixture
def tmp_path(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory: these tests write hundreds of synced records, and test no disk."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else tmp_path) as folder:
        yield Path(folder)


@pytest.fixture
def warm(consumer: Consumer) -> Consumer:
    """os-brick loaded before the forks."""
    consumer.connector_properties()
    return consumer


def test_attach_killed_anywhere_is_resumed(warm, config, file, folder):
    """Rows C9 and C10, rule R9: the rerun resumes.

    There is one device and one link, and nothing is left after disconnecting.
    """
    number = 0
    while True:
        number += 1
        killed = run_until(number, lambda: attach(Consumer(config), file))
        attach(warm, file)
        assert warm.check("data").ok, number
        assert len(devices_below(folder)) == 1, number
        drop(warm)
        assert devices_below(folder) == [], number
        assert [path for path in (folder / "root").rglob("*") if path.is_file() or path.is_symlink()] == [], number
        if not killed:
            break
    assert number > 15


def test_attach_killed_anywhere_is_undone(warm, config, file, folder):
    """Disconnecting after a crash in the middle of connecting leaves nothing."""
    number = 0
    while True:
        number += 1
        killed = run_until(number, lambda: attach(Consumer(config), file))
        drop(warm)
        assert devices_below(folder) == [], number
        assert not [path for path in (folder / "root").rglob("*") if path.is_file() or path.is_symlink()], number
        if not killed:
            break
    assert number > 15


def test_detach_killed_anywhere_is_resumed(warm, config, file, folder):
    number = 0
    while True:
        number += 1
        attach(warm, file)
        killed = run_until(number, lambda: drop(Consumer(config)))
        drop(warm)
        assert devices_below(folder) == [], number
        assert not [path for path in (folder / "root").rglob("*") if path.is_file() or path.is_symlink()], number
        if not killed:
            break
    assert number > 12


def test_detach_killed_anywhere_can_be_taken_back(warm, config, file, folder):
    """Connecting after a crash in the middle of disconnecting gives the volume back."""
    number = 0
    while True:
        number += 1
        attach(warm, file)
        killed = run_until(number, lambda: drop(Consumer(config)))
        attach(warm, file)
        assert warm.check("data").ok, number
        assert len(devices_below(folder)) == 1, number
        drop(warm)
        if not killed:
            break
    assert number > 12


def test_detach_killed_anywhere_is_ended_at_boot(warm, config, file, folder):
    number = 0
    while True:
        number += 1
        attach(warm, file)
        killed = run_until(number, lambda: drop(Consumer(config)))
        for result in warm.reattach():
            assert result.state in ("ok", "skipped"), (number, result)
        drop(warm)
        assert devices_below(folder) == [], number
        if not killed:
            break
    assert number > 12
