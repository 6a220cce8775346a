"""Encrypted volumes over iSCSI: the SAN sees ciphertext, volumes grow, hosts boot without the
master, and passphrases are nowhere.
"""

from __future__ import annotations

import json
import subprocess
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from .consumer import assert_nothing_attached
from .guest import Guest
from .lab import Lab, failed
from .verified import Verified

pytestmark = pytest.mark.long
BACKEND = "file, tgt"
PROTOCOL = "iSCSI, CHAP, one path and multipath; LUKS2"
GIB = 2**30
#: The passphrase of one is in sdb on the host, that of the other in the master's pillar.
OWN, MASTERS = "geheim 4711", "geheim 4712"
REFERENCE = "sdb://local_secrets/own"
SECRETS = {"own": REFERENCE, "masters": MASTERS}
VOLUMES = {"own": {"mount": "/srv/own", "fstype": "ext4"}, "masters": {"mount": "/srv/masters", "fstype": "xfs", "mount_options": "nofail"}}
CLEAR = "klartext-0815-" * 4
#: A profile of sdb in the minion's own configuration, so that it can be read when the master is
#: down.
PROFILE = {"local_secrets": {"driver": "yaml", "files": ["/etc/salt/secrets.yaml"]}}
#: A guest's kernel finds its modules only when they are loaded within the guest; dm-crypt does
#: not start without the first two.
MODULES = ("cbc", "aes_ti", "xts", "dm-crypt")


@pytest.fixture(scope="module", autouse=True)
def _hosts(lab: Lab) -> Any:
    for host in lab.consumers:
        host.write("/etc/modules-load.d/lab.conf", "\n".join(MODULES) + "\n")
        host.write("/etc/salt/minion.d/secrets.conf", json.dumps(PROFILE), 0o600)
        host.write("/etc/salt/secrets.yaml", json.dumps({"own": OWN}), 0o600)
        # A minion reads its configuration when it starts.
        host.run(f"modprobe -a {' '.join(MODULES)}; systemctl restart salt-minion")
    lab.controller.wait_for_minions(lab.consumers)
    yield
    apply(lab, state="absent")
    for host in lab.consumers:
        host.run("rm -f /etc/modules-load.d/lab.conf /etc/salt/minion.d/secrets.conf /etc/salt/secrets.yaml")
    assert lab.files() == []


def applied(lab: Lab, secrets: dict[str, str], **volume: object) -> dict[str, Any]:
    """Apply both volumes on both hosts, and return each host's answer."""
    volumes = {name: {"size": 1, "encrypted": True, **entry, **volume} for name, entry in VOLUMES.items()}
    lab.controller.pillar({"consumer": {"protocols": ["iscsi", "multipath", "luks"]}, "volumes": volumes, "passphrases": secrets})
    return lab.controller.jobs(lab.consumers, "state.apply", "storage.volumes", timeout=400)


def apply(lab: Lab, secrets: dict[str, str] = SECRETS, **volume: object) -> dict[str, set[str]]:
    """Apply both volumes on both hosts; return the keys of the changes, by volume."""
    changes: dict[str, set[str]] = {}
    for who, result in applied(lab, secrets, **volume).items():
        failed(who, result)
        for entry in result.values():
            if entry["changes"]:
                changes.setdefault(entry["name"], set()).update(entry["changes"])
    return changes


def mappings(host: Guest) -> list[str]:
    return [line for line in host.run("dmsetup ls --target crypt").splitlines() if line.startswith("storage-")]


def clear(host: Guest, name: str) -> bool:
    """Return whether the file on a volume can be read in clear."""
    return host.ran(f"cat {VOLUMES[name]['mount']}/file").output.strip() == CLEAR


def assert_secrets_are_nowhere(lab: Lab) -> None:
    """Check that passphrases are only where they were put: pillar (and the master's cache of it),
    and the file of sdb.
    """
    for secret in (OWN, MASTERS):
        for path in lab.controller.folder.rglob("*"):
            if path.is_file() and not path.is_symlink() and "pillar" not in path.relative_to(lab.controller.folder).parts:
                assert secret.encode() not in path.read_bytes(), path
        for host in lab.consumers:
            places = "/var/lib/salt-storage /var/log /var/cache/salt /etc/fstab /run/salt-storage"
            assert host.ran(f"grep -rlaF '{secret}' {places} 2>/dev/null").output.strip() == ""
            assert secret not in host.run("journalctl --no-pager"), host.name


def test_encrypted_before_it_leaves_the_host(lab: Lab, verified: Verified) -> None:
    with verified(BACKEND, PROTOCOL, "create, attach, encrypt, format (ext4, xfs) and mount from pillar; the SAN has ciphertext only"):
        changes = apply(lab)
        assert {name: "mount" in keys for name, keys in changes.items()} == {"own": True, "masters": True}
        for host in lab.consumers:
            for name, entry in VOLUMES.items():
                host.run(f"echo {CLEAR} > {entry['mount']}/file && sync -f {entry['mount']}")
                assert host.run(f"lsblk --noheadings --nodeps --output TYPE /dev/storage/{name}").strip() == "crypt"
                # The same search, where it must find something.
                assert host.ran(f"grep -qaF {CLEAR} /dev/storage/{name}").code == 0
        files = sorted(lab.volumes.glob("volume-*"))
        assert len(files) == 4
        for path in files:
            with path.open("rb") as file:
                assert file.read(6) == b"LUKS\xba\xbe"
            assert subprocess.run(["grep", "-qaF", CLEAR, path], check=False).returncode == 1
    with verified(BACKEND, PROTOCOL, "the same pillar applied again changes nothing"):
        assert apply(lab) == {}


def test_x6_it_grows_while_mounted(lab: Lab, verified: Verified) -> None:
    """Row X6: array, paths, map, opened device, and file system."""
    with verified(BACKEND, PROTOCOL, "grow online: device, map, what is open of it and file system have the new size"):
        assert apply(lab, size=2) == {"own": {"size", "filesystem"}, "masters": {"size", "filesystem"}}
        for host in lab.consumers:
            for name, entry in VOLUMES.items():
                assert int(host.run(f"findmnt --noheadings --bytes --output SIZE {entry['mount']}")) > 1.8 * GIB
                assert clear(host, name)


def test_r4_a_boot_with_the_master_down(lab: Lab, verified: Verified) -> None:
    """Row R4, and the promises of the how-to page for both kinds of passphrase."""
    assert_secrets_are_nowhere(lab)
    with verified(
        BACKEND,
        PROTOCOL,
        "reboot with the master down: opened and mounted where the passphrase is in sdb on the host, else locked",
    ):
        lab.controller.stop()
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda host: host.reboot(), lab.consumers))
        for host in lab.consumers:
            host.run(
                "timeout 180 sh -c 'until systemctl is-active salt-storage-reattach && findmnt /srv/own; do sleep 1; done'", timeout=200
            )
            assert clear(host, "own")
            assert len(mappings(host)) == 1
            assert host.ran("findmnt /srv/masters || test -e /dev/storage/masters").code == 1
            assert "locked" in host.run("journalctl --no-pager --unit salt-storage-reattach")
    lab.controller.start()
    lab.controller.wait_for_minions(lab.consumers)
    for found in lab.controller.jobs(lab.consumers, "storage.attachment", "masters").values():
        assert found["status"] == "locked"
    with verified(BACKEND, PROTOCOL, "a wrong passphrase is refused, and nothing changes"):
        for result in applied(lab, {**SECRETS, "masters": "geheim 4713"}, size=2).values():
            wrong = {entry["name"]: entry for entry in result.values() if not entry["result"]}
            assert set(wrong) == {"masters"}
            assert wrong["masters"]["comment"].startswith("FAILED_PRECONDITION: the passphrase does not open"), wrong
            assert wrong["masters"]["changes"] == {}
        for host in lab.consumers:
            assert len(mappings(host)) == 1
    with verified(BACKEND, PROTOCOL, "a locked volume is opened and mounted by the next state.apply"):
        changes = apply(lab, size=2)
        assert set(changes) == {"masters"}
        assert changes["masters"] >= {"path", "mount"}
        for host in lab.consumers:
            assert clear(host, "masters")
        assert apply(lab, size=2) == {}


def test_g9_passphrases_are_nowhere(lab: Lab, verified: Verified) -> None:
    """Row G9."""
    with verified(BACKEND, PROTOCOL, "passphrases are in no log, job cache, record, catalog or table of file systems"):
        assert_secrets_are_nowhere(lab)


def test_nothing_is_left(lab: Lab, verified: Verified) -> None:
    with verified(BACKEND, PROTOCOL, "detach closes it, and leaves no mapping, map, session, node record or link"):
        apply(lab, state="disconnected")
        for host in lab.consumers:
            assert mappings(host) == []
            assert_nothing_attached(host)
        assert len(lab.files()) == 4
    with verified(BACKEND, PROTOCOL, "connect and mount again: the data is there"):
        apply(lab, size=2)
        for host in lab.consumers:
            assert clear(host, "own")
            assert clear(host, "masters")
    with verified(BACKEND, PROTOCOL, "absent: unmount, close, detach, delete; nothing is left"):
        apply(lab, state="absent")
        for host in lab.consumers:
            assert mappings(host) == []
            assert_nothing_attached(host)
        assert lab.targets() == []
        assert lab.files() == []
