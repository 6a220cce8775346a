"""A controller that is the storage machine itself: LVM thin pool and files, exported by the
kernel (LIO), with its reboot under I/O.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from .consumer import LOGIN_REFUSED, disks, writing
from .guest import BIN, CHECKOUT, LOGS, Guest, LabError, wait_for
from .san import ADDRESS, GROUP, San
from .verified import Verified

#: Cinder and a salt-master take such a guest minutes to start.
pytestmark = pytest.mark.long
#: Exit code of ``iscsiadm`` when there is nothing to show.
NONE = 21
THIN, FILE = "LVM thin pool, LIO", "file, LIO"
PROTOCOL = "iSCSI, CHAP"
VOLUMES = {
    "thin": {"size": "1GiB", "backend": "lvm", "mount": "/srv/thin", "fstype": "ext4"},
    "file": {"size": "1GiB", "backend": "file", "mount": "/srv/file", "fstype": "xfs"},
}
RECORDS = "/var/lib/salt-storage/minion/attachments"
MOUNTS = ("/srv/thin", "/srv/file")
#: The volume of both hosts; the first has the other volume too.
BOTH = "thin"
WRITTEN = tuple(f"{mount}/written" for mount in MOUNTS)


def volumes(**changes: object) -> dict:
    return {name: {**volume, **changes} for name, volume in VOLUMES.items()}


def both(**changes: object) -> dict:
    return {BOTH: volumes(**changes)[BOTH]}


def sums(san: San) -> list[str]:
    """Return the checksums of the volumes of both hosts, past their caches."""
    return [guest.run("sync; echo 3 > /proc/sys/vm/drop_caches; sha256sum /srv/*/blob") for guest in san.consumers]


def wwns(san: San) -> list[str]:
    return [
        guest.run("for l in /dev/storage/*; do cat /sys/block/$(basename $(readlink -f $l))/device/wwid; done") for guest in san.consumers
    ]


def records(guest: Guest) -> list[dict[str, Any]]:
    return [json.loads(guest.run(f"cat {path}")) for path in guest.run(f"ls {RECORDS}/*").split()]


def test_each_host_gets_its_own_volume(san: San, verified: Verified) -> None:
    with verified(THIN, PROTOCOL, "state.apply of one pillar on two hosts: create, map, attach, format (ext4), mount"):
        results = san.apply(both(), san.consumers)
        for guest in san.consumers:
            assert results[guest.name][BOTH]["changes"], results
            assert guest.run(f"findmnt --noheadings --output FSTYPE /srv/{BOTH}").strip() == "ext4"
            guest.run(f"head -c 20M /dev/urandom > /srv/{BOTH}/blob; sync")
        assert len(san.targets()) == 2
        assert san.server.run(f"lvs --noheadings -o pool_lv {GROUP} --select 'lv_name=~^volume-'").split() == [f"{GROUP}-pool"] * 2
        assert "thin-pool" not in san.server.run(f"lvs --noheadings -o lv_name {GROUP}")
    with verified(FILE, PROTOCOL, "state.apply: create, map, attach, format (xfs), mount; the volume that is there is not changed"):
        results = san.apply(VOLUMES)[san.consumer.name]
        assert (bool(results["file"]["changes"]), results[BOTH]["changes"]) == (True, {}), results
        assert san.consumer.run("findmnt --noheadings --output FSTYPE /srv/file").strip() == "xfs"
        san.consumer.run("head -c 20M /dev/urandom > /srv/file/blob; sync")


def test_another_host_sees_no_target_and_cannot_log_in(san: San, verified: Verified) -> None:
    """By hand, as the other host's root, under its own name: without a secret, with its own, and
    with the right one, stolen.
    """
    one, other = san.consumers
    (own,) = (record["connection_info"]["data"] for record in records(other))
    seen = other.run(f"iscsiadm -m discovery -t st -p {ADDRESS} -o nonpersistent")
    assert own["target_iqn"] in seen
    for record in records(one):
        with verified({"thin": THIN, "file": FILE}[record["name"]], PROTOCOL, "another host neither discovers the target nor logs in"):
            data = record["connection_info"]["data"]
            assert data["target_iqn"] in one.run(f"iscsiadm -m discovery -t st -p {ADDRESS} -o nonpersistent")
            assert data["target_iqn"] not in seen
            node = f"iscsiadm -m node -T {data['target_iqn']} -p {data['target_portal']}"
            other.run(f"{node} -o new")
            try:
                assert other.ran(f"{node} --login").code in LOGIN_REFUSED
                for stolen in (own, data):
                    chap(other, node, stolen["auth_username"], stolen["auth_password"])
                    assert other.ran(f"{node} --login").code in LOGIN_REFUSED
                assert data["target_iqn"] not in other.run("iscsiadm -m session")
            finally:
                other.run(f"{node} -o delete")


def chap(guest: Guest, node: str, username: str, password: str) -> None:
    """Give a node record credentials."""
    for key, value in (("authmethod", "CHAP"), ("username", username), ("password", password)):
        guest.run(f"{node} -o update -n node.session.auth.{key} -v '{value}'")


def test_the_right_host_without_the_right_secret_is_refused(san: San, verified: Verified) -> None:
    # An interface of the same initiator name: the sessions of the other one stay.
    iface = "iscsiadm -m iface -I again"
    san.consumer.run(f"{iface} -o new; {iface} -o update -n iface.initiatorname -v {san.consumer.initiator}")
    try:
        for record in records(san.consumer):
            with verified(
                {"thin": THIN, "file": FILE}[record["name"]], PROTOCOL, "the right host is refused without CHAP, and with a wrong secret"
            ):
                data = record["connection_info"]["data"]
                node = f"iscsiadm -m node -T {data['target_iqn']} -p {data['target_portal']} -I again"
                san.consumer.run(f"{node} -o new")
                try:
                    assert san.consumer.ran(f"{node} --login").code in LOGIN_REFUSED
                    chap(san.consumer, node, data["auth_username"], "not the secret")
                    assert san.consumer.ran(f"{node} --login").code in LOGIN_REFUSED
                finally:
                    san.consumer.run(f"{node} -o delete")
    finally:
        san.consumer.run(f"{iface} -o delete")


def test_growing_under_io(san: San, verified: Verified) -> None:
    with verified(THIN, PROTOCOL, "grow online under I/O (ext4)"), verified(FILE, PROTOCOL, "grow online under I/O (xfs)"):
        before = sums(san)
        with writing(*((san.consumer, path) for path in WRITTEN)):
            san.apply(volumes(size="2GiB"))
            for mount in MOUNTS:
                assert int(san.consumer.run(f"findmnt --bytes --noheadings --output SIZE {mount}")) > 1.8 * 2**30
        assert sums(san) == before


@pytest.mark.timeout(1800)
def test_the_controller_reboots_while_volumes_are_in_use(san: San, verified: Verified) -> None:
    """I/O waits in the initiator, whose timeout is 120 seconds by default; the engine makes the
    targets again.
    """
    text = "the storage machine reboots under I/O: targets are restored with the same WWN, no I/O fails"
    with verified(THIN, PROTOCOL, text), verified(FILE, PROTOCOL, text):
        # A loaded machine without KVM boots for longer than a real one.
        for guest in san.consumers:
            guest.run("for t in /sys/class/iscsi_session/*/recovery_tmo; do echo 900 > $t; done")
        before, names = sums(san), wwns(san)
        with writing(*((san.consumer, path) for path in WRITTEN)):
            san.server.reboot()
            wait_for(lambda: len(san.targets()) == 3, "the targets to be restored", 600)
        assert sums(san) == before
        assert wwns(san) == names
        san.wait()


def test_data_is_there_after_disconnect_and_reconnect(san: San, verified: Verified) -> None:
    before = sums(san)
    with verified(THIN, PROTOCOL, "disconnect leaves no session, device or target, also when node records were deleted by hand"):
        # As administrators do who want to be rid of a target; os-brick alone would then leave
        # session and device.
        san.consumer.run("rm -rf /etc/iscsi/nodes/*")
        san.apply(volumes(size="2GiB", state="disconnected"), san.consumers)
        for guest in san.consumers:
            assert guest.ran("iscsiadm -m session").code == NONE, "sessions left over"
            assert guest.ran("iscsiadm -m node").code == NONE, "node records left over"
            assert disks(guest) == {}
        assert san.targets() == []
    with verified(FILE, PROTOCOL, "disconnect leaves no session, device, target or loop device on the controller"):
        assert san.server.run("losetup --list --noheadings").strip() == ""
    with verified(THIN, PROTOCOL, "reconnect: the data is there"), verified(FILE, PROTOCOL, "reconnect: the data is there"):
        san.apply(both(size="2GiB"), san.consumers)
        san.apply(volumes(size="2GiB"))
        assert sums(san) == before


def test_deleting_leaves_nothing(san: San, verified: Verified) -> None:
    with verified(THIN, PROTOCOL, "delete: no logical volume, no target is left"):
        san.apply(volumes(size="2GiB", state="absent"), san.consumers)
        assert san.server.run(f"lvs --noheadings -o lv_name {GROUP}").split() == [f"{GROUP}-pool"]
        assert san.targets() == []
    with verified(FILE, PROTOCOL, "delete: no file, no loop device is left"):
        assert san.server.run("ls -A /srv/san").strip() == ""
        assert san.server.run("losetup --list --noheadings").strip() == ""
    assert san.run("storage.volumes") == []


@pytest.mark.timeout(9000)
@pytest.mark.parametrize(
    ("what", "chosen"),
    [("each life once and ten times over", "not at_the_same_time"), ("four callers at once", "at_the_same_time")],
    ids=["alone", "together"],
)
def test_conformance(san: San, verified: Verified, what: str, chosen: str) -> None:
    """The suite that every provider must pass, in the guest: its output is kept also when it
    passes.
    """
    with verified(THIN, PROTOCOL, f"provider conformance suite: {what}"):
        options = {
            "provider": "cinderlib",
            "volume_driver": "saltstorage.drivers.lvm_iscsi.LVMISCSIDriver",
            "volume_group": GROUP,
            "lvm_type": "thin",
            "target_helper": "lioadm",
            "target_ip_address": ADDRESS,
        }
        san.server.write("/run/backend.json", json.dumps(options))
        suite = f"-m pytest -v -p no:cacheprovider -o timeout=3000 --durations=0 tests/conformance -k '{chosen}'"
        found = san.server.ran(f"cd {CHECKOUT} && {BIN}/python {suite} --backend=/run/backend.json", timeout=8900)
        LOGS.mkdir(parents=True, exist_ok=True)
        (LOGS / f"conformance {what}.log").write_text(found.output)
        if found.code:
            raise LabError(found.output)
        assert san.server.run(f"lvs --noheadings -o lv_name {GROUP}").split() == [f"{GROUP}-pool"]
        assert san.targets() == []
