"""Mounting beside others who mount the same device."""

from __future__ import annotations

import os

import pytest

from saltstorage.consumer.devices import mounts
from saltstorage.consumer.filesystems import mounting
from saltstorage.consumer.host import commands
from saltstorage.errors import FailedPreconditionError
from tests.unit.consumer.helpers import mount


def test_a_mount_by_systemd_at_the_same_moment_is_no_error(point, formatted, monkeypatch):
    """systemd has waited for the device since boot, and may be first; that is no error."""
    ours = commands.run

    def run(what, command, **options):
        if command[0] == "mount":
            mount(formatted, point)
        return ours(what, command, **options)

    monkeypatch.setattr(mounting.commands, "run", run)
    mounting.mount(formatted, point, "ext4", "defaults", timeout=30)
    assert mounts.state(point, formatted).right
    assert not mounts.state(point, formatted).stacked


def test_a_device_that_is_in_use_is_not_mounted(point, formatted, monkeypatch):
    monkeypatch.setattr(mounting, "_MEANWHILE", 0)
    fd = os.open(formatted, os.O_RDONLY | os.O_EXCL)
    try:
        with pytest.raises(FailedPreconditionError, match="could not be mounted"):
            mounting.mount(formatted, point, "ext4", "defaults", timeout=30)
    finally:
        os.close(fd)
