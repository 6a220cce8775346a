"""Shares with volumes as files: unmounted when the last volume has left, and not before.

A tmpfs stands in for the share here; a real NFS server, and os-brick's mounting, are in the lab.
"""

from __future__ import annotations

import dataclasses
import os
import subprocess
import threading

import pytest

from saltstorage.consumer.connectors import connection_info
from saltstorage.consumer.connectors.brick import Brick
from saltstorage.consumer.connectors.shares import Shares
from saltstorage.consumer.devices import loop, mounts
from saltstorage.consumer.host.config import ConsumerConfig
from saltstorage.errors import AbortedError, UnimplementedError
from tests import needs
from tests.loops import let_go

TAG = "salt-storage:test-shares"


@pytest.fixture
def config(tmp_path):
    return ConsumerConfig(host="db1", state_dir=str(tmp_path))


@pytest.fixture
def mount_point(config):
    needs.root()
    path = os.path.join(Shares(config).mount_base, "0123")
    os.makedirs(path)
    subprocess.run(["mount", "-t", "tmpfs", "share", path], check=True)
    yield path
    if mounts.state(path).mounted:
        subprocess.run(["umount", path], check=True)


def info(**data):
    return {"driver_volume_type": "nfs", "data": {"export": "192.0.2.1:/srv/nfs", "name": "volume-1", **data}}


def test_the_share_is_unmounted_when_no_volume_is_on_it(config, mount_point):
    Shares(config).leave(info(), mount_point)
    assert not mounts.state(mount_point).mounted
    assert not os.path.exists(mount_point)
    Shares(config).leave(info(), mount_point)


def test_the_share_stays_while_another_volume_is_on_it(config, mount_point):
    file = os.path.join(mount_point, "volume-2")
    with open(file, "wb") as stream:
        stream.truncate(2**20)
    device = loop.attach(file, TAG)
    try:
        Shares(config).leave(info(), mount_point)
        assert mounts.state(mount_point).mounted
    finally:
        let_go(device)
    Shares(config).leave(info(), mount_point)
    assert not mounts.state(mount_point).mounted


def test_a_share_is_not_unmounted_while_a_volume_on_it_is_being_attached(config, mount_point):
    held, end = threading.Event(), threading.Event()

    def attach():
        with Shares(config).hold(info()):
            held.set()
            end.wait(10)

    thread = threading.Thread(target=attach)
    thread.start()
    held.wait(10)
    try:
        with pytest.raises(AbortedError, match="share"):
            Shares(dataclasses.replace(config, step_timeout=0.3)).leave(info(name="volume-2"), mount_point)
        assert mounts.state(mount_point).mounted
    finally:
        end.set()
        thread.join()


def test_other_protocols_have_no_share(config, mount_point):
    other = {"driver_volume_type": "iscsi", "data": {"export": "192.0.2.1:/srv/nfs"}}
    with Shares(config).hold(other), Shares(config).hold(other):
        Shares(config).leave(other, mount_point)
    assert mounts.state(mount_point).mounted


def test_only_raw_files_are_attached():
    assert connection_info.check(info(format="raw"))
    with pytest.raises(UnimplementedError, match="nfs_qcow2_volumes"):
        connection_info.check(info(format="qcow2"))


def test_os_brick_mounts_under_the_consumers_own_directory(config):
    connector = Brick(config).connector({**info(), "mount_point_base": "/var/lib/cinder/mnt"}, False)
    assert connector.get_search_path() == os.path.join(config.state_dir, "mnt")
