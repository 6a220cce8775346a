"""The connector for Ceph RBD without a cluster; the lab shows the rest."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from pathlib import Path

import pytest
from oslo_concurrency import processutils

from saltstorage.consumer.connectors import rbd
from saltstorage.consumer.connectors.brick import Brick
from saltstorage.consumer.connectors.rbd import KernelRBDConnector, device_of
from saltstorage.errors import FailedPreconditionError

DATA = {
    "name": "volumes/volume-1",
    "hosts": ["192.0.2.1", "2001:db8::1"],
    "ports": ["6789", "6790"],
    "cluster_name": "ceph",
    "auth_username": "cinder",
    "keyring": "[client.cinder]\n\tkey = geheim-4711==\n",
}


class NoClusterError(Exception):
    """A failure while the image is mapped."""


INFO = {"driver_volume_type": "rbd", "data": DATA}


@pytest.fixture
def connector(tmp_path: Path) -> KernelRBDConnector:
    return KernelRBDConnector(str(tmp_path / "private"))


def show(sysfs: Path, number: int, pool: str, name: str, snapshot: str = "-") -> None:
    """Write the kernel's files about an RBD device."""
    base = sysfs / "devices" / str(number)
    base.mkdir(parents=True)
    for key, value in {"pool": pool, "name": name, "current_snap": snapshot}.items():
        (base / key).write_text(value + "\n")


def test_the_device_of_an_image_is_found_by_pool_and_name(tmp_path):
    """R1: an image of that name in another pool, or a snapshot of the image, does not count."""
    assert device_of(DATA, str(tmp_path)) is None
    show(tmp_path, 0, "other", "volume-1")
    show(tmp_path, 1, "volumes", "volume-1", "snap")
    show(tmp_path, 2, "volumes", "volume-2")
    assert device_of(DATA, str(tmp_path)) is None
    show(tmp_path, 10, "volumes", "volume-1")
    assert device_of(DATA, str(tmp_path)) == "/dev/rbd10"


@pytest.mark.parametrize("left_by_a_crash", [False, True])
def test_g9_r26_the_key_is_in_a_private_file_while_the_image_is_mapped(connector, left_by_a_crash):
    path = Path(connector.private_dir, "volumes_volume-1.conf")
    if left_by_a_crash:
        path.parent.mkdir()
        path.write_text("half")
        path.chmod(0o644)
    with contextlib.suppress(NoClusterError), connector.configuration(DATA):
        assert connector.create_non_openstack_config(DATA) == str(path)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        text = path.read_text()
        assert "mon_host = 192.0.2.1:6789,[2001:db8::1]:6790\n" in text
        assert text.endswith("\n[client.cinder]\n\tkey = geheim-4711==\n\n")
        raise NoClusterError
    assert os.listdir(connector.private_dir) == []
    assert connector.create_non_openstack_config(DATA) is None


def test_without_a_key_in_the_answer_the_host_uses_its_own(connector):
    with connector.configuration({**DATA, "keyring": None}):
        assert connector.create_non_openstack_config(DATA) is None
    assert not os.path.exists(connector.private_dir)


def test_g8_a_missing_rbd_command_is_named(config, monkeypatch, tmp_path):
    adapter = Brick(config)
    adapter.connector(INFO, False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(FailedPreconditionError, match="ceph-common") as caught:
        adapter.connect(INFO, use_multipath=False)
    assert "geheim" not in str(caught.value)
    assert not os.path.exists(os.path.join(config.lock_path, "rbd"))


@pytest.mark.parametrize(("code", "text"), [(errno.ENXIO, "rbd_default_features"), (errno.EACCES, "rbd_keyring_conf")])
def test_g10_a_failure_that_no_repetition_mends_names_its_cause(monkeypatch, tmp_path, code, text):
    error = processutils.ProcessExecutionError(cmd="rbd map", exit_code=code)
    monkeypatch.setattr(rbd, "SYSFS", str(tmp_path / "none"))
    assert "no module rbd" in str(rbd.refusal(error))
    monkeypatch.setattr(rbd, "SYSFS", str(tmp_path))
    assert text in str(rbd.refusal(error))
    assert rbd.refusal(processutils.ProcessExecutionError(cmd="rbd map", exit_code=errno.ETIMEDOUT)) is None
