"""Real files, loop devices and mounts in the test's own folder, with a check for leftovers."""

from __future__ import annotations

import dataclasses
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from salt._logging import impl as salt_logging

from saltstorage.consumer.consumer import Consumer
from saltstorage.consumer.devices import loop, mounts
from saltstorage.consumer.host.config import ConsumerConfig
from tests.loops import let_go
from tests.unit.consumer.helpers import GIB, devices_below, mounts_below, needs_root

# Salt keeps early log records for a console that the tests never set up, and would print them at
# the end.
salt_logging.shutdown_temp_handler()


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder without devices and mounts at the end: a leftover is removed, and fails the test."""
    needs_root()
    yield tmp_path
    left = []
    for mount in reversed(mounts_below(tmp_path)):
        left.append(f"mount {mount.path}")
        subprocess.run(["umount", "-l", mount.path], check=False)
    for status in devices_below(tmp_path):
        left.append(f"device {status.path}")
        loop.detach(status.path)
    assert not left


@pytest.fixture
def config(folder: Path) -> ConsumerConfig:
    """Settings with os-brick in the tests' own process, which they patch."""
    return dataclasses.replace(ConsumerConfig.from_opts({"id": "db1", "root_dir": str(folder / "root")}), in_process=True)


@pytest.fixture
def consumer(config: ConsumerConfig) -> Consumer:
    return Consumer(config)


@pytest.fixture
def make_file(folder: Path) -> Callable[..., Path]:
    """Return a function that makes the file of a volume."""

    def make(name: str = "volume-1", size: int = GIB) -> Path:
        path = folder / name
        with path.open("wb") as file:
            file.truncate(size)
        return path

    return make


@pytest.fixture
def file(make_file: Callable[..., Path]) -> Path:
    return make_file()


@pytest.fixture
def device(file: Path) -> Iterator[str]:
    """A loop device of its own, with no consumer's record of it."""
    path = loop.attach(str(file), "test")
    yield path
    let_go(path)


@pytest.fixture
def formatted(device: str) -> str:
    """The device with an ext4 file system on it."""
    subprocess.run(["mkfs.ext4", "-q", device], check=True)
    return device


@pytest.fixture
def point(folder: Path, device: str) -> Iterator[str]:
    """A mount point whose name needs escapes; the end of the test unmounts it."""
    path = folder / "a b\tc\\d ä"
    path.mkdir()
    yield str(path)
    while mounts.state(str(path)).mounted:
        subprocess.run(["umount", str(path)], check=True)
