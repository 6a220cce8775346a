"""NFS: Cinder's driver and the kernel's server; the consumer gets a block device over a file on
the share, like from any other backend.
"""

from __future__ import annotations

import pytest

from .guest import wait_for
from .san import FILES, San
from .verified import Verified

pytestmark = pytest.mark.long
BACKEND, PROTOCOL = "NFS (Cinder), nfsd", "NFS 4.2"
VOLUMES = {
    "one": {"size": "1GiB", "backend": "nfs", "mount": "/srv/one", "fstype": "ext4"},
    "two": {"size": "1GiB", "backend": "nfs", "mount": "/srv/two", "fstype": "xfs"},
}


def shares(san: San) -> list[str]:
    """Return the shares that the consumer has mounted."""
    return san.consumer.run("findmnt --noheadings --list --types nfs,nfs4 --output TARGET || true").split()


def sums(san: San) -> str:
    return san.consumer.run("sha256sum /srv/one/blob /srv/two/blob")


def test_two_volumes_of_one_share(san: San, verified: Verified) -> None:
    with verified(BACKEND, PROTOCOL, "state.apply: create, connect, format (ext4, xfs), mount; two volumes on one share"):
        san.apply(VOLUMES)
        for name in VOLUMES:
            san.consumer.run(f"head -c 20M /dev/urandom > /srv/{name}/blob; sync")
            assert san.consumer.run(f"readlink -f /dev/storage/{name}").startswith("/dev/loop")
        assert len(shares(san)) == 1
        assert len(san.server.run(f"ls {FILES}/nfs/cinder").split()) == 2


def test_the_share_goes_with_the_last_volume(san: San, verified: Verified) -> None:
    with verified(BACKEND, PROTOCOL, "disconnect: the share is unmounted when the last volume leaves; the data is there after reconnect"):
        before = sums(san)
        san.apply({**VOLUMES, "one": {**VOLUMES["one"], "state": "disconnected"}})
        assert len(shares(san)) == 1
        assert san.consumer.run("losetup --list --noheadings | wc -l").strip() == "1"
        san.apply({name: {**volume, "state": "disconnected"} for name, volume in VOLUMES.items()})
        assert shares(san) == []
        assert san.consumer.run("losetup --list --noheadings").strip() == ""
        san.apply(VOLUMES)
        assert sums(san) == before


def test_volumes_are_attached_at_boot(san: San, verified: Verified) -> None:
    with verified(BACKEND, PROTOCOL, "reboot of the consumer: attached and mounted again"):
        before = sums(san)
        san.consumer.reboot()
        mounted = "findmnt /srv/one && findmnt /srv/two"
        wait_for(lambda: san.consumer.ran(mounted).code == 0, "both volumes to be mounted", 240)
        assert sums(san) == before


def test_deleting_leaves_no_file(san: San, verified: Verified) -> None:
    with verified(BACKEND, PROTOCOL, "delete: no file, no share is left"):
        san.apply({name: {**volume, "state": "absent"} for name, volume in VOLUMES.items()})
        assert shares(san) == []
        assert san.server.run(f"ls {FILES}/nfs/cinder").strip() == ""
