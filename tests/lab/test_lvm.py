"""A controller that is the storage machine itself: LVM thin pool and files, exported by the kernel (LIO), with its reboot under I/O."""

from __future__ import annotations

import json

import pytest

from .consumer import LOGIN_REFUSED, disks
from .guest import BIN, CHECKOUT, LOGS, LabError, wait_for
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
#: Writes numbered blocks, each flushed, until told to end; a block that cannot be written ends it too.
WRITER = """\
import hashlib, os, sys
path, end = sys.argv[1], sys.argv[2]
total = hashlib.sha256()
with open(path, "wb") as file:
    number = 0
    while not os.path.exists(end) or number < 20:
        block = number.to_bytes(8, "big") * 8192
        file.write(block)
        file.flush()
        os.fsync(file.fileno())
        total.update(block)
        number += 1
        if number % 500 == 0:
            file.seek(0)
            total = hashlib.sha256()
            file.truncate()
with open(end + ".done", "w") as file:
    file.write(total.hexdigest())
"""


def volumes(**changes: object) -> dict:
    return {name: {**volume, **changes} for name, volume in VOLUMES.items()}


def sums(san: San) -> str:
    return san.consumer.run(f"sha256sum {' '.join(f'{mount}/blob' for mount in MOUNTS)}")


def wwns(san: San) -> dict[str, str]:
    return {
        name: san.consumer.run(f"cat /sys/block/$(basename $(readlink -f /dev/storage/{name}))/device/wwid").strip() for name in VOLUMES
    }


class Writing:
    """Writes to each mount while something happens, and then compares what is there with what was written."""

    def __init__(self, san: San) -> None:
        self.san = san

    def __enter__(self) -> Writing:
        self.san.consumer.write("/run/writer.py", WRITER)
        for number, mount in enumerate(MOUNTS):
            run = f"{BIN}/python -S /run/writer.py {mount}/written /run/end{number}"
            self.san.consumer.run(f"rm -f /run/end{number}*; systemd-run --quiet --collect --unit=writer{number} {run}")
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        consumer = self.san.consumer
        consumer.run("; ".join(f"touch /run/end{number}" for number in range(len(MOUNTS))))
        if kind is not None:
            return
        for number, mount in enumerate(MOUNTS):
            wait_for(lambda n=number: consumer.ran(f"test -e /run/end{n}.done").code == 0, f"the writes to {mount}", 200)  # type: ignore[misc]
            # Past the cache: what the storage has.
            consumer.run("sync; echo 3 > /proc/sys/vm/drop_caches")
            assert consumer.run(f"sha256sum < {mount}/written").split()[0] == consumer.run(f"cat /run/end{number}.done").strip()


def test_volumes_are_created_connected_and_mounted(san: San, verified: Verified) -> None:
    results = san.apply(VOLUMES)
    for name, backend, what in (("thin", THIN, "ext4"), ("file", FILE, "xfs")):
        with verified(backend, PROTOCOL, f"state.apply: create, map, attach, format ({what}), mount"):
            assert results[name]["changes"], results
            assert san.consumer.run(f"findmnt --noheadings --output FSTYPE /srv/{name}").strip() == what
            san.consumer.run(f"head -c 20M /dev/urandom > /srv/{name}/blob; sync")
    assert "thin-pool" not in san.server.run(f"lvs --noheadings -o lv_name {GROUP}")
    assert san.server.run(f"lvs --noheadings -o pool_lv {GROUP} --select 'lv_name=~^volume-'").strip() == f"{GROUP}-pool"


def test_another_host_sees_no_target_and_cannot_log_in(san: San, verified: Verified) -> None:
    """By hand, as that host's root would, with the right secret."""
    records = [json.loads(san.consumer.run(f"cat {path}")) for path in san.consumer.run(f"ls {RECORDS}/*").split()]
    other = "iscsiadm -m iface -I other"
    san.consumer.run(f"{other} -o new; {other} -o update -n iface.initiatorname -v iqn.2024-01.test.lab:other")
    try:
        for record in records:
            with verified({"thin": THIN, "file": FILE}[record["name"]], PROTOCOL, "another host neither discovers the target nor logs in"):
                data = record["connection_info"]["data"]
                discovery = f"iscsiadm -m discovery -t st -p {ADDRESS} -o nonpersistent"
                assert san.consumer.ran(f"{discovery} -I other").code == NONE
                assert data["target_iqn"] in san.consumer.run(f"{discovery} -I default")
                node = f"iscsiadm -m node -T {data['target_iqn']} -p {data['target_portal']} -I other"
                san.consumer.run(f"{node} -o new")
                for key, value in (("authmethod", "CHAP"), ("username", data["auth_username"]), ("password", data["auth_password"])):
                    san.consumer.run(f"{node} -o update -n node.session.auth.{key} -v {value}")
                try:
                    assert san.consumer.ran(f"{node} --login").code in LOGIN_REFUSED
                finally:
                    san.consumer.run(f"{node} -o delete")
    finally:
        san.consumer.run(f"{other} -o delete")


def test_the_right_host_without_the_right_secret_is_refused(san: San, verified: Verified) -> None:
    records = [json.loads(san.consumer.run(f"cat {path}")) for path in san.consumer.run(f"ls {RECORDS}/*").split()]
    own = san.consumer.run("cut -d= -f2 /etc/iscsi/initiatorname.iscsi").strip()
    iface = "iscsiadm -m iface -I again"
    san.consumer.run(f"{iface} -o new; {iface} -o update -n iface.initiatorname -v {own}")
    try:
        for record in records:
            with verified(
                {"thin": THIN, "file": FILE}[record["name"]], PROTOCOL, "the right host is refused without CHAP, and with a wrong secret"
            ):
                data = record["connection_info"]["data"]
                node = f"iscsiadm -m node -T {data['target_iqn']} -p {data['target_portal']} -I again"
                san.consumer.run(f"{node} -o new")
                try:
                    assert san.consumer.ran(f"{node} --login").code in LOGIN_REFUSED
                    for key, value in (("authmethod", "CHAP"), ("username", data["auth_username"]), ("password", "not the secret")):
                        san.consumer.run(f"{node} -o update -n node.session.auth.{key} -v '{value}'")
                    assert san.consumer.ran(f"{node} --login").code in LOGIN_REFUSED
                finally:
                    san.consumer.run(f"{node} -o delete")
    finally:
        san.consumer.run(f"{iface} -o delete")


def test_growing_under_io(san: San, verified: Verified) -> None:
    with verified(THIN, PROTOCOL, "grow online under I/O (ext4)"), verified(FILE, PROTOCOL, "grow online under I/O (xfs)"):
        before = sums(san)
        with Writing(san):
            san.apply(volumes(size="2GiB"))
        for mount in MOUNTS:
            assert int(san.consumer.run(f"findmnt --bytes --noheadings --output SIZE {mount}")) > 1.8 * 2**30
        assert sums(san) == before


def test_the_controller_reboots_while_volumes_are_in_use(san: San, verified: Verified) -> None:
    """I/O waits in the initiator, whose timeout is 120 seconds by default; the engine makes the targets again."""
    text = "the storage machine reboots under I/O: targets are restored with the same WWN, no I/O fails"
    with verified(THIN, PROTOCOL, text), verified(FILE, PROTOCOL, text):
        # A loaded machine without KVM boots for longer than a real one.
        san.consumer.run("for t in /sys/class/iscsi_session/*/recovery_tmo; do echo 600 > $t; done")
        before, names = sums(san), wwns(san)
        with Writing(san):
            san.server.reboot()
            wait_for(lambda: len(san.targets()) == 2, "the targets to be restored", 600)
        assert sums(san) == before
        assert wwns(san) == names
        san.wait()


def test_data_is_there_after_disconnect_and_reconnect(san: San, verified: Verified) -> None:
    before = sums(san)
    with verified(THIN, PROTOCOL, "disconnect leaves no session, device or target, also when node records were deleted by hand"):
        # As administrators do who want to be rid of a target; os-brick alone would then leave session and device.
        san.consumer.run("rm -rf /etc/iscsi/nodes/*")
        san.apply(volumes(size="2GiB", state="disconnected"))
        assert san.consumer.ran("iscsiadm -m session").code == NONE, "sessions left over"
        assert san.consumer.ran("iscsiadm -m node").code == NONE, "node records left over"
        assert disks(san.consumer) == {}
        assert san.targets() == []
    with verified(FILE, PROTOCOL, "disconnect leaves no session, device, target or loop device on the controller"):
        assert san.server.run("losetup --list --noheadings").strip() == ""
    with verified(THIN, PROTOCOL, "reconnect: the data is there"), verified(FILE, PROTOCOL, "reconnect: the data is there"):
        san.apply(volumes(size="2GiB"))
        assert sums(san) == before


def test_deleting_leaves_nothing(san: San, verified: Verified) -> None:
    with verified(THIN, PROTOCOL, "delete: no logical volume, no target is left"):
        san.apply(volumes(size="2GiB", state="absent"))
        assert san.server.run(f"lvs --noheadings -o lv_name {GROUP}").split() == [f"{GROUP}-pool"]
        assert san.targets() == []
    with verified(FILE, PROTOCOL, "delete: no file, no loop device is left"):
        assert san.server.run("ls -A /srv/san").strip() == ""
        assert san.server.run("losetup --list --noheadings").strip() == ""
    assert san.run("storage.volumes") == []


@pytest.mark.timeout(9000)
def test_conformance(san: San, verified: Verified) -> None:
    """The suite that every provider must pass, whole, in the guest: its output is kept also when it passes."""
    with verified(THIN, PROTOCOL, "provider conformance suite: each life once and ten times over, four callers at once"):
        options = {
            "provider": "cinderlib",
            "volume_driver": "saltstorage.controller.drivers.lvm_iscsi.LVMISCSIDriver",
            "volume_group": GROUP,
            "lvm_type": "thin",
            "target_helper": "lioadm",
            "target_ip_address": ADDRESS,
        }
        san.server.write("/run/backend.json", json.dumps(options))
        suite = "-m pytest -v -p no:cacheprovider -o timeout=3000 --durations=0 tests/conformance"
        found = san.server.ran(f"cd {CHECKOUT} && {BIN}/python {suite} --backend=/run/backend.json", timeout=8900)
        LOGS.mkdir(parents=True, exist_ok=True)
        (LOGS / "conformance.log").write_text(found.output)
        if found.code:
            raise LabError(found.output)
        assert san.server.run(f"lvs --noheadings -o lv_name {GROUP}").split() == [f"{GROUP}-pool"]
        assert san.targets() == []
