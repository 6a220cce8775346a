"""Devices are announced to systemd; with a real udev and systemd in the lab."""

from __future__ import annotations

import concurrent.futures
import logging

import pytest

from saltstorage.consumer.devices import block, udev
from saltstorage.consumer.host import commands

COUNT = 4


@pytest.fixture
def host(tmp_path, monkeypatch):
    """A host whose udev takes a while to read its rules.

    Files stand in for the kernel's, since no udev runs here.
    """
    tool = tmp_path / "udevadm"
    tool.write_text(f"#!/bin/sh\nsleep 0.2\necho read >> {tmp_path}/reloads\n")
    tool.chmod(0o755)
    (tmp_path / "control").touch()
    for number in range(COUNT):
        (tmp_path / f"sd{number}").mkdir()
        (tmp_path / f"sd{number}" / "diskseq").write_text(f"{number + 7}\n")
    monkeypatch.setattr(commands, "SEARCH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(block, "is_block", lambda path: True)
    monkeypatch.setattr(block, "sysfs", lambda path: str(tmp_path / path.removeprefix("/dev/")))
    for name, path in (("_CONTROL", "control"), ("_RULES", "rules.d/90.rules"), ("_FOLDER", "devices")):
        monkeypatch.setattr(udev, name, str(tmp_path / path))
    return tmp_path


def test_volumes_attached_at_once_are_announced_after_the_rule_is_read(host, caplog):
    """As at boot, when the first volumes of the host are attached at the same time."""
    with caplog.at_level(logging.WARNING), concurrent.futures.ThreadPoolExecutor(COUNT) as pool:
        list(pool.map(lambda number: udev.announce(f"/dev/sd{number}", f"/dev/storage/v {number}"), range(COUNT)))
    assert caplog.records == []
    assert (host / "reloads").read_text() == "read\n"
    read = (host / "reloads").stat().st_mtime_ns
    for number in range(COUNT):
        assert (host / "devices" / f"sd{number}-{number + 7}").read_text() == f"SYSTEMD_ALIAS='\"/dev/storage/v {number}\"'\n"
        assert (host / f"sd{number}" / "uevent").read_text() == "change"
        assert (host / f"sd{number}" / "uevent").stat().st_mtime_ns >= read


def test_a_forgotten_device_leaves_no_file(host):
    udev.announce("/dev/sd0", "/dev/storage/data")
    udev.forget("/dev/sd0")
    udev.forget("/dev/sd0")
    assert [path.name for path in (host / "devices").iterdir()] == [".lock"]
