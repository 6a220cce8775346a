"""Volumes grow while they are mounted and written to, over one path and over two."""

from __future__ import annotations

import pytest

from .consumer import assert_nothing_attached, disks, writing
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


@pytest.fixture(scope="module", autouse=True)
def _clean(lab: Lab) -> None:
    yield
    lab.apply(pillar(size=2, state="absent"))
    for host in lab.consumers:
        assert_nothing_attached(host)
    assert lab.files() == []
