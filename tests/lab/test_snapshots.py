"""Snapshots, volumes from snapshots and clones, mounted beside their origin."""

from __future__ import annotations

import pytest

from .consumer import assert_nothing_attached
from .guest import Guest
from .lab import Lab
from .verified import Verified

pytestmark = pytest.mark.long

BACKEND, PROTOCOL = "file on XFS, tgt", "iSCSI, CHAP"


@pytest.fixture(scope="module")
def host(lab: Lab) -> Guest:
    return lab.guests["db1"]


@pytest.mark.parametrize("fstype", ["ext4", "xfs"])
def test_copies_beside_their_origin(lab: Lab, host: Guest, verified: Verified, fstype: str) -> None:
    """Rows P6 and R20."""

    def state(function: str, name: str, **given: object) -> None:
        done = lab.controller.state(host, function, name, **given)
        assert done["result"] is True, done

    copies = {"copy": {"source": {"snapshot": "before"}}, "clone": {"source": {"volume": "origin"}}}
    with verified(
        BACKEND, PROTOCOL, f"snapshot of a mounted volume with its {fstype} frozen; volume from it and clone mounted beside the origin"
    ):
        state("storage_volume.mounted", "origin", size=1, mount="/srv/origin", fstype=fstype)
        host.run("echo before >/srv/origin/file; sync")
        state("storage_snapshot.present", "before", volume="origin", freeze=True)
        host.run("echo after >/srv/origin/file; sync")
        for name, given in copies.items():
            state("storage_volume.mounted", name, size=1, mount=f"/srv/{name}", fstype=fstype, **given)
        assert host.run("cat /srv/origin/file /srv/copy/file /srv/clone/file").split() == ["after", "before", "after"]
        host.run("echo changed >/srv/copy/file; sync")
        assert host.run("cat /srv/origin/file").strip() == "after"
    with verified(BACKEND, PROTOCOL, f"copies ({fstype}), snapshot and origin removed; nothing is left"):
        for name in copies:
            state("storage_volume.disconnected", name)
            state("storage_volume.absent", name)
        state("storage_snapshot.absent", "before")
        state("storage_volume.disconnected", "origin")
        state("storage_volume.absent", "origin")
        assert_nothing_attached(host)
        assert lab.files() == []
