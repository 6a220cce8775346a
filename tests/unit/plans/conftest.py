"""Minions over one backend. Each test ends with nothing left of them."""

from __future__ import annotations

import os
import subprocess

import pytest

from tests import inprocess
from tests.unit.plans.faulty_driver import FaultyDriver
from tests.unit.plans.minion import Host


@pytest.fixture(autouse=True)
def _in_process():
    """Tests here make the controller and os-brick fail at chosen steps."""
    # One of its own: a test may undo its patches before the end.
    with pytest.MonkeyPatch.context() as patches:
        inprocess.use(patches)
        yield


@pytest.fixture
def hosts(short_dir, metadata_dir):
    """A function that makes minions over one backend; at the end nothing of them is left."""
    made = []

    def make(minion="web1", **options):
        made.append(Host(short_dir, minion, metadata_dir, **options))
        return made[-1]

    yield make
    with open("/proc/mounts") as file:
        # The kernel writes a space in a path as \\040.
        mounts = [line.split()[1].encode().decode("unicode_escape") for line in file if str(short_dir) in line]
    for path in reversed(mounts):
        subprocess.run(["umount", path], check=True)
    for host in made:
        for name in {"data", *(attached.name for attached in host.flow.consumer.attachments()[0])}:
            for owner in (None, "shared"):
                host.state("disconnected", name, owner=owner)
        host.close()
    listed = subprocess.run(["losetup", "--list", "--noheadings", "--output", "NAME,BACK-FILE"], capture_output=True, text=True, check=True)
    left = [line for line in listed.stdout.splitlines() if str(short_dir) in line]
    for line in left:
        subprocess.run(["losetup", "--detach", line.split()[0]], check=True)
    assert left == []


@pytest.fixture
def shared_blocks(tmp_path):
    """A directory whose file system copies a file at one moment.

    So volumes in use can have snapshots.
    """
    image, folder = tmp_path / "blocks", tmp_path / "blocks.mounted"
    image.touch()
    os.truncate(image, 8 << 30)
    folder.mkdir()
    subprocess.run(["mkfs.xfs", "-q", "-m", "reflink=1", str(image)], check=True)
    device = subprocess.run(["losetup", "--find", "--show", str(image)], check=True, capture_output=True, text=True).stdout.strip()
    try:
        # It may have been for reading only when someone else had it.
        subprocess.run(["blockdev", "--setrw", device], check=True)
        subprocess.run(["mount", device, str(folder)], check=True)
        (folder / "volumes").mkdir(mode=0o700)
        yield folder / "volumes"
        subprocess.run(["umount", str(folder)], check=True)
    finally:
        subprocess.run(["losetup", "--detach", device], check=True)


@pytest.fixture
def hooks():
    """The hooks of the faulty driver; see there."""
    yield FaultyDriver.hooks
    FaultyDriver.hooks.clear()


@pytest.fixture
def faulty(shared_blocks, hooks, hosts):
    """A minion whose backend does what ``hooks`` say."""
    return hosts(driver=f"{FaultyDriver.__module__}.{FaultyDriver.__name__}", volumes=shared_blocks)


@pytest.fixture
def host(hosts):
    return hosts()
