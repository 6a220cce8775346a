"""Volumes grow while they are mounted and written to, over one path and over two."""

from __future__ import annotations

import pytest

from .consumer import assert_nothing_attached, disks, record, writing
from .lab import Lab
from .verified import Verified

GIB = 2**30
VOLUMES = {"one": {"fstype": "ext4", "mount": "/srv/one"}, "two": {"fstype": "xfs", "mount": "/srv/two"}}


def pillar(**more: object) -> dict[str, dict[str, object]]:
    return {name: {**entry, **more} for name, entry in VOLUMES.items()}


def test_grow_under_io(lab: Lab, verified: Verified) -> None:
    """Rows X6 and R21: every path, the map, and the file system have the size."""
    lab.apply(pillar(size=1))
    blobs = [(host, f"{entry['mount']}/blob") for host in lab.consumers for entry in VOLUMES.values()]
    with verified(
        "file, tgt", "iSCSI, CHAP, one path and multipath", "grow from 1 to 2 GiB, mounted and under I/O: ext4 and xfs; data intact"
    ):
        with writing(*blobs):
            lab.apply(pillar(size=2))
            for host in lab.consumers:
                sizes = disks(host)
                assert len(sizes) == (2 if host.name == "db1" else 6), sizes
                assert set(sizes.values()) == {2 * GIB}, sizes
                for entry in VOLUMES.values():
                    size = int(host.run(f"findmnt --bytes --noheadings --output SIZE {entry['mount']}"))
                    assert size > 1.8 * GIB, size
        assert lab.apply_again() == {}


def test_grow_while_the_session_is_logged_in_anew(lab: Lab, verified: Verified) -> None:
    """Row R21: the kernel leaves out what it is told to read again of a disk that waits for its
    session, and says nothing.
    """
    lab.apply(pillar(size=2))
    db1 = lab.guests["db1"]
    with verified("file, tgt", "iSCSI, CHAP, one path", "grow from 2 to 3 GiB while the initiator's daemon is held up and the disks wait"):
        # The target closes the sessions to grow; for some time nobody logs in again.
        db1.run("pkill -STOP iscsid")
        until = "until grep -q blocked /sys/class/scsi_device/*/device/state; do sleep 0.1; done"
        db1.run(f"setsid nohup sh -c '{until}; sleep 10; pkill -CONT iscsid' >/dev/null 2>&1 </dev/null &")
        lab.apply(pillar(size=3))
        assert set(disks(db1).values()) == {3 * GIB}
        assert lab.apply_again() == {}


def test_grow_with_a_mapping_that_was_made_anew(lab: Lab, verified: Verified) -> None:
    """Row R21: os-brick leaves a disk that is there already as it is, however much its volume has
    grown.
    """
    lab.apply(pillar(size=3))
    db1 = lab.guests["db1"]
    with verified(
        "file, tgt", "iSCSI, CHAP, one path", "grow from 3 to 4 GiB on the master, and connect with another mapping and the same disk"
    ):
        former = record(db1, "one")["connection_id"]
        db1.run(f"sed -i s/{former}/11111111-2222-4333-8444-555555555555/ /var/lib/salt-storage/minion/attachments/*-one.json")
        lab.controller.run("storage.extend", "one", "db1", "4")
        lab.apply(pillar(size=4))
        assert record(db1, "one")["connection_id"] == former
        assert set(disks(db1).values()) == {4 * GIB}
        assert int(db1.run("findmnt --bytes --noheadings --output SIZE /srv/one")) > 3.7 * GIB
        assert lab.apply_again() == {}


@pytest.fixture(scope="module", autouse=True)
def _clean(lab: Lab) -> None:
    yield
    lab.apply(pillar(state="absent"))
    for host in lab.consumers:
        assert_nothing_attached(host)
    assert lab.files() == []
