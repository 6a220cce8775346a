"""NVMe over fabrics on a host without such volumes; the lab shows the rest on a real kernel."""

from __future__ import annotations

import os

import pytest

from saltstorage.consumer.connectors import nvme
from saltstorage.consumer.connectors.brick import Brick
from saltstorage.consumer.host import commands
from saltstorage.consumer.host.records import ATTACHED, DETACHING, AttachmentRecord, Identity
from saltstorage.errors import FailedPreconditionError

NVME = {
    "driver_volume_type": "nvmeof",
    "data": {
        "target_nqn": "nqn.2014-08.org.example:none",
        "vol_uuid": "11111111-1111-4111-8111-111111111111",
        "portals": [["127.0.0.1", 1, "tcp"]],
        "host_nqn": "nqn.2014-08.org.example:host",
    },
}


def test_g8_a_missing_nvme_cli_is_named(config, tmp_path, monkeypatch):
    monkeypatch.setattr(commands, "SEARCH", str(tmp_path))
    with pytest.raises(FailedPreconditionError, match="nvme-cli"):
        Brick(config).connect(NVME, use_multipath=False)


def test_g8_a_module_that_the_kernel_does_not_have_is_named():
    with pytest.raises(FailedPreconditionError, match=r"no_such_module .*install the modules"):
        nvme.load_module("no_such_module")


def test_a_module_that_is_there_is_not_loaded_again(tmp_path, monkeypatch):
    monkeypatch.setattr(commands, "SEARCH", str(tmp_path))
    nvme.load_module(os.listdir("/sys/module")[0])


@pytest.mark.parametrize(
    ("data", "transports"),
    [
        (NVME["data"], {"tcp"}),
        ({"nqn": "n", "transport_type": "rdma", "target_portal": "h", "target_port": 1}, {"rdma"}),
        ({"volume_replicas": [{"portals": [("h", 1, "RoCEv2")]}, NVME["data"]]}, {"RoCEv2", "tcp"}),
    ],
)
def test_transports_of_each_form_of_the_data(data, transports):
    assert set(nvme.transports(data)) == transports


def test_a_volume_that_is_not_attached_has_no_path_and_nothing_to_clean_up(config):
    adapter = Brick(config)
    assert adapter.volume_paths(NVME, use_multipath=True) == []
    assert adapter.stays(NVME) is False
    adapter.clean_up(NVME)


@pytest.mark.parametrize("state", [ATTACHED, DETACHING])
def test_a_volume_whose_device_is_gone_is_detached(consumer, state):
    record = AttachmentRecord(
        owner="db1",
        name="data",
        state=state,
        connection_info=NVME,
        device_info={"type": "block", "path": "/dev/nvme99n1"},
        device="/dev/nvme99n1",
        path="/dev/disk/by-id/nvme-uuid.11111111-1111-4111-8111-111111111111",
        identity=Identity(size=2**30, wwn="uuid.11111111-1111-4111-8111-111111111111"),
    )
    consumer.records.save(record)
    assert consumer.detach("data").unmap
    consumer.forget("data")
    assert consumer.attachments() == ([], [])
