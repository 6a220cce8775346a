"""Two hosts apply the same pillar, and each gets its own volume over iSCSI, which the other
cannot reach.
"""

from __future__ import annotations

from .consumer import LOGIN_REFUSED, assert_nothing_attached, record
from .lab import Lab
from .verified import Verified

BACKEND = "file, tgt"
PROTOCOL = "iSCSI, CHAP"
MOUNT = "/srv/data"
SUMS = f"cd {MOUNT} && sha256sum whose blob"


def apply(lab: Lab, **volume: object) -> None:
    lab.apply({"data": {"size": "1GiB", "mount": MOUNT, "fstype": "ext4", **volume}})


def test_each_host_gets_its_own_volume(lab: Lab, verified: Verified) -> None:
    with verified(BACKEND, PROTOCOL, "state.apply of one pillar on two hosts: create, map, attach, format (ext4), mount"):
        apply(lab)
        assert len(lab.files()) == 2
        assert len(lab.targets()) == 2
        for guest in lab.guests.values():
            guest.run(f"echo data of {guest.name} > {MOUNT}/whose && head -c 20M /dev/urandom > {MOUNT}/blob && sync")
            assert guest.run(f"findmnt --noheadings --output FSTYPE {MOUNT}").strip() == "ext4"
            # At boot, the attachment records decide about logins; nothing else does.
            assert set(guest.run("iscsiadm -m node -o show | grep ^node.startup").splitlines()) == {"node.startup = manual"}
    # Pillar names multipath for both; the option of one says otherwise.
    assert {name: record(guest)["use_multipath"] for name, guest in lab.guests.items()} == {"db1": False, "db2": True}
    with verified(BACKEND, PROTOCOL, "the same pillar applied again changes nothing"):
        assert lab.apply_again() == {}


def test_another_host_cannot_reach_it(lab: Lab, verified: Verified) -> None:
    """Row G7."""
    one, other = lab.guests["db1"], lab.guests["db2"]
    mine = record(one)["connection_info"]["data"]
    portal, target = mine["target_portal"], mine["target_iqn"]
    with verified(BACKEND, PROTOCOL, "another host's root neither discovers the target nor logs in, also with the right CHAP secret"):
        seen = other.run(f"iscsiadm -m discovery -t st -p {portal} -o nonpersistent")
        assert record(other)["connection_info"]["data"]["target_iqn"] in seen
        assert target not in seen
        settings = {"auth.authmethod": "CHAP", "auth.username": mine["auth_username"], "auth.password": mine["auth_password"]}
        node = f"iscsiadm -m node -T {target} -p {portal}"
        other.run(f"{node} --op new; " + "; ".join(f"{node} --op update -n node.session.{k} -v {v}" for k, v in settings.items()))
        try:
            login = other.ran(f"{node} --login", timeout=180)
            assert login.code in LOGIN_REFUSED, login
            assert target not in other.run("iscsiadm -m session")
        finally:
            other.run(f"{node} --op delete")
    with verified(BACKEND, PROTOCOL, "a host that claims another's volume by its name gets its own or none"):
        found = lab.controller.state(other, "storage_volume.connected", "data", owner="db1")
        assert found["result"] is False
        assert found["comment"].startswith("PERMISSION_DENIED"), found


def test_secrets_are_in_no_log(lab: Lab) -> None:
    """Rows G9 and R26."""
    for guest in lab.guests.values():
        secret = record(guest)["connection_info"]["data"]["auth_password"]
        assert len(secret) > 8
        guest.run(f"! grep -rqF {secret} /var/log/salt /var/cache/salt")
        assert guest.run("stat -c %a /var/lib/salt-storage/minion/attachments/*").split() == ["600"]
        found = [path for path in lab.controller.folder.glob("m/var/**/*") if path.is_file() and secret.encode() in path.read_bytes()]
        assert found == []


def test_data_survives_disconnect_and_reconnect(lab: Lab, verified: Verified) -> None:
    guests = list(lab.guests.values())
    with verified(BACKEND, PROTOCOL, "disconnect leaves no session, node record, device, link or target"):
        before = {guest.name: guest.run(SUMS) for guest in guests}
        apply(lab, state="disconnected")
        for guest in guests:
            assert_nothing_attached(guest)
        assert lab.targets() == []
        assert len(lab.files()) == 2
    with verified(BACKEND, PROTOCOL, "connect and mount again: the data is there"):
        apply(lab)
        assert {guest.name: guest.run(SUMS) for guest in guests} == before


def test_absent_leaves_nothing(lab: Lab, verified: Verified) -> None:
    with verified(BACKEND, PROTOCOL, "absent: unmount, disconnect, delete; no file is left"):
        apply(lab, state="absent")
        for guest in lab.guests.values():
            assert_nothing_attached(guest)
        assert lab.targets() == []
        assert lab.files() == []
        assert lab.controller.run("storage.volumes") == []
