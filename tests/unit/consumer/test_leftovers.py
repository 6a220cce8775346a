"""Leftovers on a host that no record explains (row R5)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from saltstorage.consumer.devices import luks
from saltstorage.consumer.filesystems.fstab import Entry, Fstab
from saltstorage.consumer.host import commands
from saltstorage.errors import FailedPreconditionError
from tests.loops import let_go
from tests.unit.consumer.helpers import attach, drop

IQN = "iqn.2010-10.org.openstack:volume-"


@pytest.fixture(autouse=True)
def fstab(config):
    os.makedirs(os.path.dirname(config.fstab))
    return Fstab(config.fstab)


def found(consumer):
    # The machine's own sessions, if any, do not count here.
    return {left.kind: (left.name, left.remedy) for left in consumer.leftovers() if left.kind not in ("session", "node")}


def test_r5_a_recorded_volume_leaves_nothing_over(consumer, fstab, file):
    path = attach(consumer, file).path
    fstab.set(Entry(device=path, mount_point="/srv/data", fstype="xfs"))
    assert found(consumer) == {}
    drop(consumer)


def test_r5_a_lost_record_leaves_device_link_and_entry_over(consumer, config, fstab, file):
    one = attach(consumer, file)
    fstab.set(Entry(device=one.path, mount_point="/srv/data", fstype="xfs"))
    fstab.set(Entry(device="/dev/vda1", mount_point="/", fstype="xfs"))
    record = Path(consumer.records.path("data"))
    record.unlink()
    device = os.path.realpath(one.path)
    assert found(consumer) == {
        "loop": (f"{device} over {file}", f"losetup --detach {device}"),
        "link": (f"{one.path} to {device}", f"remove {one.path}"),
        "fstab": (f"{one.path} on /srv/data", f"remove the line from {config.fstab}"),
    }
    let_go(device)
    assert found(consumer).keys() == {"link", "fstab"}
    os.unlink(one.path)
    fstab.remove("/srv/data", one.path)
    assert found(consumer) == {}


def test_r5_sessions_and_node_records_without_a_volume_are_found(consumer, tmp_path, monkeypatch):
    tool = tmp_path / "iscsiadm"
    session, node = f"tcp: [3] 10.0.0.1:3260,1 {IQN}1 (non-flash)", f"[fd00::1]:3260,1 {IQN}2"
    tool.write_text(f"#!/bin/sh\ncase $2 in session) echo '{session}' ;; node) echo '{node}' ;; esac\n")
    tool.chmod(0o755)
    monkeypatch.setattr(commands, "SEARCH", f"{tmp_path}:/usr/bin:/bin")
    assert [(left.kind, left.name, left.remedy) for left in consumer.leftovers()] == [
        ("session", f"{IQN}1 at 10.0.0.1:3260", f"iscsiadm -m node -T {IQN}1 -p 10.0.0.1:3260 --logout"),
        ("node", f"{IQN}2 at [fd00::1]:3260", f"iscsiadm -m node -T {IQN}2 -p [fd00::1]:3260 -o delete"),
    ]
    consumer.intend("db1", "data")
    data = {"target_iqn": f"{IQN}1", "target_iqns": [f"{IQN}1", f"{IQN}2"]}
    info = {"driver_volume_type": "iscsi", "data": data}
    consumer.records.save(consumer.records.load("data").replace(connection_info=info))
    assert consumer.leftovers() == []


def test_r5_a_damaged_record_explains_nothing_away(consumer, file):
    attach(consumer, file)
    record = Path(consumer.records.path("data"))
    kept = record.read_bytes()
    record.write_text("{")
    with pytest.raises(FailedPreconditionError, match="attachments"):
        consumer.leftovers()
    record.write_bytes(kept)
    drop(consumer)


def test_r5_a_mapping_of_another_minion_is_not_ours():
    mine, other = "salt-storage:" + "a" * 32, "salt-storage:" + "b" * 32
    assert luks.is_own(luks.name("11111111", mine), mine)
    assert not luks.is_own(luks.name("11111111", other), mine)
    assert not luks.is_own("vg-root", mine)
