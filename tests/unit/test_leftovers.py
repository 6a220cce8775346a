"""Leftovers of a run of the lab, told from the processes and devices of others."""

from __future__ import annotations

import subprocess
import uuid
from pathlib import Path

import pytest

from tests import loops
from tests.lab import leftovers

pytestmark = pytest.mark.root


@pytest.fixture
def run():
    return f"lab-{uuid.uuid4().hex[:8]}"


def test_a_loop_device_is_known_by_its_file(run, tmp_path, capsys):
    (tmp_path / run).mkdir()
    image = tmp_path / run / "volumes"
    image.write_bytes(bytes(2**20))
    device = subprocess.run(["losetup", "--find", "--show", image], check=True, capture_output=True, text=True).stdout.strip()
    try:
        left = f"loop device: {Path(device).name} {image}"
        assert leftovers.found(run) == [left]
        assert leftovers.main(run, patience=0) == 1
        assert left in capsys.readouterr().err
        assert leftovers.found("lab-of-others") == []
    finally:
        loops.let_go(device)
    assert leftovers.main(run) == 0


def test_a_mount_is_known_by_its_source(run, tmp_path):
    subprocess.run(["mount", "-t", "tmpfs", run, tmp_path], check=True)
    try:
        (mount,) = leftovers.found(run)
        assert mount.startswith("mount: ")
        assert str(tmp_path) in mount
    finally:
        subprocess.run(["umount", tmp_path], check=True)
    assert leftovers.main(run) == 0
