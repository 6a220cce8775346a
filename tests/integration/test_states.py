"""The states as users apply them: a real master, real minions, real devices."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.cluster import engines, loops, state, volume_files, write_pillar
from tests.loops import let_go

pytestmark = [pytest.mark.root, pytest.mark.slow]

ODD_NAMES = ["two words", "-rf", "it's", 'say "x"', "{{ grains.id }}", "{a: b}", "- x", "💾", "é" * 64, "%s", "a\\b", "#"]


def only(states):
    (one,) = states.values()
    return one


def test_the_main_job_through_pillar(cluster, clean, tmp_path):
    mount = tmp_path / "srv"
    volume = {"size": "1GiB", "mount": str(mount), "fstype": "xfs"}

    def apply(**kwargs):
        write_pillar(cluster.root, "alpha", {"storage": {"volumes": {"data": volume}}})
        cluster.job("alpha", "saltutil.refresh_pillar", wait=True)
        return list(cluster.job("alpha", "state.apply", "storage.volumes", **kwargs).values())

    (dry,) = apply(test=True)
    assert dry["result"] is None
    assert volume_files(cluster) == []
    (first,) = apply()
    assert first["result"] is True, first
    assert first["changes"]["data"]["old"] is None
    assert os.path.ismount(mount)
    (mount / "file").write_text("kept")
    (second,) = apply()
    assert (second["result"], second["changes"]) == (True, {}), second
    (dry,) = apply(test=True)
    assert (dry["result"], dry["changes"]) == (True, {}), dry

    volume["size"] = "2GiB"
    (grown,) = apply()
    assert grown["changes"]["size"] == {"old": 1, "new": 2}
    assert os.statvfs(mount).f_blocks * os.statvfs(mount).f_frsize > 1.9 * 2**30
    assert (mount / "file").read_text() == "kept"

    volume["state"] = "absent"
    gone = apply()
    assert all(s["result"] for s in gone), gone
    assert not mount.exists()
    assert volume_files(cluster) == []
    assert loops(cluster) == []
    assert (cluster.root / "alpha" / "fstab").read_text() == ""
    assert all(not s["changes"] for s in apply())
    write_pillar(cluster.root, "alpha", {})


def test_both_minions_have_their_own_volume_of_a_name(cluster, catalog, clean):
    ids = {m: only(cluster.apply(m, state("connected", "data", size=1)))["changes"]["data"]["new"]["id"] for m in cluster.minions}
    assert len(set(ids.values())) == 2
    found = {c.host: c.owner for c in catalog.connections()}
    assert found == {"alpha": "alpha", "beta": "beta"}
    assert len(loops(cluster)) == 2


def test_salt_call_beside_the_running_minion(cluster, clean):
    done = cluster.call("alpha", "state.single", "storage_volume.connected", "name=data", "size=1")
    assert only(done)["result"] is True, done
    assert cluster.call("alpha", "storage.device", "data") == str(cluster.root / "alpha" / "dev" / "data")


def test_versions_of_master_and_minions_and_what_to_do_about_old_code(cluster):
    def rows():
        return {(row["host"], row["part"]): row for row in cluster.run("storage.versions", "minions=*")}

    found = rows()
    parts = {("master", "runner"), ("master", "engine"), ("master", "controller"), ("alpha", "modules"), ("beta", "modules")}
    assert parts <= found.keys()
    assert len({found[part]["build"] for part in parts}) == 1
    assert [found[part]["hint"] for part in parts] == [""] * 5
    [synced] = cluster.root.glob("alpha/**/extmods/utils/saltstorage/places.py")
    before = synced.read_text()
    synced.write_text(before + "# older\n")
    try:
        changed = rows()
        assert changed["alpha", "modules"]["build"] != found["alpha", "modules"]["build"]
        assert changed["alpha", "modules"]["hint"].endswith("run salt alpha saltutil.sync_all")
        assert changed["beta", "modules"] == found["beta", "modules"]
    finally:
        synced.write_text(before)
    assert rows() == found


def test_later_states_use_the_device_without_templates(cluster, clean, tmp_path):
    sls = {
        "data": {"storage_volume.connected": [{"size": 1}]},
        "by path": {
            "cmd.run": [{"name": f"blockdev --getsize64 {cluster.root}/alpha/dev/data"}, {"require": [{"storage_volume": "data"}]}]
        },
        "by slot": {"file.managed": [{"name": str(tmp_path / "device")}, {"contents": "__slot__:salt:storage.device(data)"}]},
    }
    done = cluster.apply("alpha", "#!json\n" + json.dumps(sls))
    assert done["by path"]["changes"]["stdout"] == str(2**30)
    assert (tmp_path / "device").read_text().strip() == f"{cluster.root}/alpha/dev/data"


def test_odd_names_in_every_state_and_command(cluster, clean):
    created = cluster.apply("alpha", state("connected", *ODD_NAMES, size=1), timeout=300)
    assert {n: s["result"] for n, s in created.items()} == dict.fromkeys(ODD_NAMES, True), created
    again = cluster.apply("alpha", state("connected", *ODD_NAMES, size=1))
    assert not any(s["changes"] for s in again.values()), again
    assert {v["name"] for v in cluster.run("storage.volumes")} == set(ODD_NAMES)
    for name in ODD_NAMES:
        assert cluster.job("alpha", "storage.device", name=name) == str(cluster.root / "alpha" / "dev" / name)
    for name in ODD_NAMES[:5]:
        # As typed at a prompt, where Salt reads arguments as YAML.
        assert cluster.run("storage.volume", f"name={json.dumps(name)}", "owner=alpha")["name"] == name
    for function in ("disconnected", "absent"):
        done = cluster.apply("alpha", state(function, *ODD_NAMES), timeout=300)
        assert all(s["result"] and s["changes"] for s in done.values()), done
        assert not any(s["changes"] for s in cluster.apply("alpha", state(function, *ODD_NAMES)).values())


BAD = [
    ("present", "x", {"size": 0}, "size"),
    ("present", "x", {"size": -1}, "size"),
    ("present", "x", {"size": "ten"}, "size"),
    ("present", "x", {"size": 1.5}, "size"),
    ("present", "x", {"size": 10**9}, "size"),
    ("present", "x", {}, "size"),
    ("present", "x", {"size": 1, "sise": 2}, "sise"),
    ("present", "x", {"size": 1, "backend": "nowhere"}, "backend"),
    ("connected", "x", {"size": 1, "backend": "nowhere"}, "backend"),
    ("mounted", "x", {"size": 1, "backend": "nowhere", "mount": "/srv/x"}, "backend"),
    ("mounted", "x", {"size": 1}, "mount"),
    ("mounted", "x", {"size": 1, "mount": "relative"}, "mount"),
    ("mounted", "x", {"size": 1, "mount": "/srv/x", "fstype": "ntfs"}, "fstype"),
    ("mounted", "x", {"size": 1, "mount": "/srv/x", "mkfs_options": "-F"}, "mkfs_options"),
    ("mounted", "x", {"size": 1, "mount": "/srv/x", "mount_options": "a b"}, "mount_options"),
    ("connected", "a/b", {"size": 1}, "name"),
    ("connected", "a\nb", {"size": 1}, "name"),
    ("connected", "x" * 129, {"size": 1}, "name"),
    ("connected", "..", {"size": 1}, "name"),
    ("absent", ".", {}, "name"),
    ("disconnected", "x", {"force": "yes"}, "force"),
    ("unmounted", "x", {"mount": "/srv/x"}, "mount"),
]


@pytest.mark.parametrize("test", [True, False], ids=["dry", "real"])
def test_g2_bad_input_is_named_before_anything_changes(cluster, catalog, test):
    sls = {
        f"case {n}": {f"storage_volume.{function}": [{"name": name}, *({k: v} for k, v in parameters.items())]}
        for n, (function, name, parameters, _) in enumerate(BAD)
    }
    done = cluster.apply("alpha", "#!json\n" + json.dumps(sls), test=test)
    assert len(done) == len(BAD)
    for n, (*_, field) in enumerate(BAD):
        found = done[f"case {n}"]
        assert (found["result"], found["changes"]) == (False, {}), found
        assert found["comment"].startswith("INVALID_ARGUMENT: "), found
        assert field in found["comment"], found
    assert volume_files(cluster) == []
    assert catalog.connections() == []
    assert list((cluster.root / "alpha" / "consumer").glob("attachments/*.json")) == []


def test_u7_in_use_is_not_disconnected(cluster, clean):
    cluster.apply("alpha", state("connected", "data", size=1))
    with open(cluster.root / "alpha" / "dev" / "data", "rb") as held:
        for test in (True, False):
            done = only(cluster.apply("alpha", state("disconnected", "data"), test=test))
            assert done["result"] is False
            assert done["comment"].startswith("FAILED_PRECONDITION: ")
            assert str(os.getpid()) in done["comment"]
        assert held.read(1) == b"\0"
    assert only(cluster.apply("alpha", state("disconnected", "data")))["changes"]


def test_d4_connected_is_not_deleted(cluster, clean):
    cluster.apply("alpha", state("connected", "data", size=1))
    for test in (True, False):
        done = only(cluster.apply("alpha", state("absent", "data"), test=test))
        assert done["result"] is False
        assert "connected to alpha" in done["comment"]
    assert len(volume_files(cluster)) == 1


def test_c10_a_device_that_vanished_is_attached_again(cluster, clean):
    cluster.apply("alpha", state("connected", "data", size=1))
    (device,) = loops(cluster)
    let_go(device)
    dry = only(cluster.apply("alpha", state("connected", "data", size=1), test=True))
    assert dry["result"] is None
    assert loops(cluster) == []
    done = only(cluster.apply("alpha", state("connected", "data", size=1)))
    assert "path" in done["changes"], done
    assert len(loops(cluster)) == 1
    assert not only(cluster.apply("alpha", state("connected", "data", size=1)))["changes"]


def test_c13_another_file_system_is_never_formatted(cluster, clean, tmp_path):
    cluster.apply("alpha", state("connected", "data", size=1))
    device = str(cluster.root / "alpha" / "dev" / "data")
    subprocess.run(["mkfs.ext4", "-q", device], check=True)
    for test in (True, False):
        done = only(cluster.apply("alpha", state("mounted", "data", size=1, mount=str(tmp_path / "m"), fstype="xfs"), test=test))
        if not test:
            assert done["result"] is False
            assert done["comment"].startswith("ALREADY_EXISTS: ")
    command = ["blkid", "-p", "-o", "value", "-s", "TYPE", os.path.realpath(device)]
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "ext4"
    # Taken as it is when no type is asked for.
    done = only(cluster.apply("alpha", state("mounted", "data", size=1, mount=str(tmp_path / "m"))))
    assert done["result"] is True, done


def test_reattach_after_a_boot_needs_no_controller(cluster, clean):
    cluster.apply("alpha", state("connected", "data", size=1))
    (device,) = loops(cluster)
    let_go(device)
    config = str(Path(cluster.minions["alpha"].config["conf_file"]).parent)
    salt_call = Path(sys.executable).with_name("salt-call")
    command = [salt_call, "--local", "-c", config, "storage.reattach", "--out=json"]
    ran = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert json.loads(ran.stdout)["local"][0]["state"] == "attached"
    assert len(loops(cluster)) == 1


def test_a_killed_engine_comes_back_and_the_next_apply_converges(cluster, clean):
    cluster.apply("alpha", state("connected", "data", size=1))
    for pid in engines(cluster):
        os.kill(pid, signal.SIGKILL)
    done = only(cluster.apply("alpha", state("connected", "data", size=2), timeout=180))
    assert done["result"] is True, done
    assert done["changes"]["size"] == {"old": 1, "new": 2}
    assert len(volume_files(cluster)) == 1


def test_the_runner_and_the_engine_take_turns(cluster, clean):
    cluster.apply("alpha", state("connected", "data", size=1))
    assert cluster.run("storage.extend", "data", owner="alpha", size=2)["volume"]["size"] == 2
    done = only(cluster.apply("alpha", state("connected", "data", size=1), test=True))
    assert done["comment"].startswith("OUT_OF_RANGE: ")
    failed = cluster.run("storage.delete", "data", owner="alpha")
    assert failed["code"] == "FAILED_PRECONDITION"
    assert "Traceback" not in str(failed)
