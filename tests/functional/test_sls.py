"""The SLS files, rendered by Salt's own compiler with ordinary and with hostile pillar."""

from __future__ import annotations

import getpass
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

Render = Callable[[str, dict[str, Any]], dict[str, Any]]

HOSTILE = [
    "pg data",
    'it\'s "quoted"',
    "-rf",
    "{{ salt['cmd.run']('touch owned') }}",
    "{% raw %}",
    "{# #}",
    "a: [b, &c *d !!python:os.system ['id']]",
    "#!py",
    "- list",
    "yes",
    "null",
    "%YAML 1.2",
    "$(id) `id` ; id | id",
    "..data",
    "a.b",
    "__id__",
    "include",
    "[a-z]*?",
    "🗄️ Дані",
    "\u202eright to left",
    "é" * 64,
    "n" * 128,
    "_|-",
]


def arguments(body: dict[str, Any], function: str) -> dict[str, Any]:
    module, name = function.split(".")
    items = body[module]
    assert name in items
    return {key: value for item in items if isinstance(item, dict) for key, value in item.items() if key != "order"}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_reach_the_state_unchanged(name: str, render: Render) -> None:
    high = render("storage.volumes", {"storage": {"volumes": {name: {"size": 1, "mount": f"/srv/{name}"}}}})
    [body] = high.values()
    assert arguments(body, "storage_volume.mounted") == {"name": name, "size": 1, "mount": f"/srv/{name}"}


def test_all_hostile_names_at_once(render: Render) -> None:
    high = render("storage", {"storage": {"volumes": {name: {"size": 1} for name in HOSTILE}}})
    assert [arguments(body, "storage_volume.connected")["name"] for body in high.values()] == HOSTILE


def test_slots_in_pillar_are_not_called(render: Render, tmp_path: Path) -> None:
    call = f"__slot__:salt:file.touch({tmp_path}/owned)"
    high = render("storage.volumes", {"storage": {"volumes": {call: {"size": 1}, "data": {"size": 1, "backend": call}}}})
    assert [arguments(body, "storage_pillar.invalid")["comment"][:16] for body in high.values()] == ["INVALID_ARGUMENT"] * 2


@pytest.mark.parametrize("storage", [["data"], {"volumes": ["data"]}, {"volumes": {"data": []}}])
def test_a_list_where_a_mapping_is_due(storage: Any, render: Render) -> None:
    bodies = render("storage.volumes", {"storage": storage}).values()
    assert bodies
    for body in bodies:
        assert arguments(body, "storage_pillar.invalid")["comment"].startswith("INVALID_ARGUMENT: storage")


def apply_states(loaded: dict[str, Any], sls: str, pillar: dict[str, Any], **options: Any) -> dict[str, dict[str, Any]]:
    """Return what Salt returns for each state of an SLS, by the state's id."""
    applied = loaded["modules"]["state.apply"](sls, pillar=pillar, **options)
    return {key.split("_|-")[1]: state for key, state in applied.items()}


@pytest.mark.parametrize(
    "sls",
    ["storage", "storage.controller,storage.consumer", "storage.controller.clean,storage.consumer.clean,storage.environment.clean"],
)
def test_a_minion_without_the_modules_is_told_to_sync_them(sls: str, formula_root: Path, tmp_path: Path) -> None:
    """Salt does not do it by itself when it applies one SLS."""
    opts: dict[str, Any] = {"root_dir": str(tmp_path), "id": "fresh", "file_client": "local", "file_roots": {"base": [str(formula_root)]}}
    opts["pillar_roots"] = {"base": [str(tmp_path / "pillar")]}
    (tmp_path / "minion").write_text(yaml.safe_dump({**opts, "user": getpass.getuser()}))
    command = [Path(sys.executable).parent / "salt-call", "-c", tmp_path, "--local", "--out=json", "state.apply", sls]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    states = json.loads(done.stdout)["local"].values()
    assert len(states) == len(sls.split(","))
    for state in states:
        assert state["result"] is False
        assert "run saltutil.sync_all" in state["comment"]
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("test", [True, False])
def test_a_minion_without_pillar_succeeds_with_a_warning(loaded: dict[str, Any], test: bool) -> None:
    """Not with no state at all, which says nothing."""
    state = apply_states(loaded, "storage.volumes", {}, test=test)["storage-volumes-none"]
    assert (state["result"], state["changes"]) == (True, {})
    assert "top.sls" in state["warnings"][0]


@pytest.mark.parametrize("test", [True, False])
@pytest.mark.parametrize(
    ("pillar", "state_id", "words"),
    [
        ({"storage": None, "volumes": {"data": {"size": 1}}}, "storage-invalid", "indent 'volumes' below 'storage'"),
        ({"storage": {"volume": {"data": {"size": 1}}}}, "storage-invalid", "did you mean 'volumes'?"),
        (
            {"storage": {"volumes": {"a": {"size": 1, "mount": "/srv/nc"}, "b": {"size": 1, "mount": "/srv/nc/"}}}},
            "storage-volumes-invalid-a",
            "mount '/srv/nc' is that of 'b' too",
        ),
    ],
)
def test_a_fault_above_the_volumes_fails_before_anything_changes(
    loaded: dict[str, Any], pillar: dict[str, Any], state_id: str, words: str, test: bool
) -> None:
    states = apply_states(loaded, "storage.volumes", pillar, test=test)
    assert words in states[state_id]["comment"]
    assert {state["result"] for key, state in states.items() if key.startswith("storage-volumes")} <= {False}
    assert states[state_id]["result"] is False


def test_a_rounded_size_is_a_warning_and_no_change(loaded: dict[str, Any]) -> None:
    pillar = {"storage": {"volumes": {"data": {"size": "500MiB", "state": "present"}}}}
    state = apply_states(loaded, "storage.volumes", pillar, test=True)["storage-volumes-rounded-data"]
    assert (state["result"], state["changes"]) == (True, {})
    assert "rounded up to 1 GiB" in state["warnings"][0]


def test_the_example_pillar_renders_every_volume(render: Render, checkout: Path) -> None:
    pillar = yaml.safe_load((checkout / "pillar.example").read_text())
    high = render("storage.volumes", pillar)
    assert len(high) >= len(pillar["storage"]["volumes"])
    assert not [state_id for state_id in high if "invalid" in state_id]
    assert "storage-controller-config" in render("storage.controller", pillar)


def controller(tmp_path: Path, **settings: Any) -> dict[str, Any]:
    files = {"config": str(tmp_path / "storage" / "controller.yaml"), "master_config": str(tmp_path / "master.d" / "storage.conf")}
    lookup = {**files, "user": "root", "service": "", **settings}
    config = {
        "state_dir": str(tmp_path / "state"),
        "backends": {"local": {"volume_driver": "x.Y", "san_password": "yes: {{ 'no' }} 'secret'"}},
    }
    return {"storage": {"controller": config, "lookup": {"controller": lookup}}}


@pytest.mark.root
def test_controller_writes_the_masters_configuration(loaded: dict[str, Any], tmp_path: Path) -> None:
    pillar = controller(tmp_path)
    apply = loaded["modules"]["state.apply"]
    first = apply("storage.controller", pillar=pillar)
    assert all(state["result"] is True for state in first.values()), first
    path, engine = tmp_path / "storage" / "controller.yaml", tmp_path / "master.d" / "storage.conf"
    assert yaml.safe_load(path.read_text()) == pillar["storage"]["controller"]
    assert path.stat().st_mode & 0o777 == 0o600
    # The master does not start without it, so it has no secrets and everybody can read it.
    assert yaml.safe_load(engine.read_text()) == {"engines": [{"storage": {}}], "storage": {"config": str(path)}}
    assert engine.stat().st_mode & 0o777 == 0o644
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700
    assert "secret" not in str(first), "passwords stay out of what the master records"
    second = apply("storage.controller", pillar=pillar)
    assert [state["changes"] for state in second.values()] == [{}] * 5
    cleaned = apply("storage.controller.clean", pillar=pillar)
    assert all(state["result"] is True for state in cleaned.values()), cleaned
    assert not path.exists()
    assert not engine.exists()


@pytest.mark.root
@pytest.mark.parametrize(
    "secret", ["geheim🔒4711", "geheim\u2028: {{ 1/0 }} {% raw %} #!py", "!!geheim \x85 'a' \"b\"", "\ufeffgeheim\U0010ffff", "ge\nheim"]
)
def test_any_character_of_a_secret_is_written_and_never_shown(secret: str, loaded: dict[str, Any], tmp_path: Path) -> None:
    pillar = controller(tmp_path)
    pillar["storage"]["controller"]["backends"]["🗄️ Дані"] = {"volume_driver": "x.Y", "san_password": secret}
    apply = loaded["modules"]["state.apply"]
    path = tmp_path / "storage" / "controller.yaml"
    preview = apply("storage.controller", pillar=pillar, test=True)
    assert all(state["result"] is not False for state in preview.values()), preview
    assert not path.exists()
    shown = [preview, apply("storage.controller", pillar=pillar)]
    assert all(state["result"] is True for state in shown[-1].values()), shown[-1]
    assert yaml.safe_load(path.read_text(encoding="utf-8")) == pillar["storage"]["controller"]
    assert path.stat().st_mode & 0o777 == 0o600
    # Another password: neither the new one nor the former one is shown.
    pillar["storage"]["controller"]["backends"]["🗄️ Дані"]["san_password"] = f"new {secret}"
    shown += [apply("storage.controller", pillar=pillar, test=True), apply("storage.controller", pillar=pillar)]
    assert [state["result"] for state in shown[-2].values()].count(None) == 1
    assert shown[-1]["file_|-storage-controller-config_|-" + str(path) + "_|-serialize"]["changes"]
    for result in shown:
        assert "heim" not in str(result)


@pytest.mark.root
def test_controller_without_the_engine_list(loaded: dict[str, Any], tmp_path: Path) -> None:
    loaded["modules"]["state.apply"]("storage.controller", pillar=controller(tmp_path, engine=False))
    assert (tmp_path / "storage" / "controller.yaml").exists()
    assert not (tmp_path / "master.d").exists()


@pytest.mark.root
def test_a_user_that_is_not_there_is_said_in_a_dry_run_too(loaded: dict[str, Any], tmp_path: Path) -> None:
    for test in (True, False):
        [state] = apply_states(loaded, "storage.controller", controller(tmp_path, user="nobody-of-that-name"), test=test).values()
        assert state["result"] is False
        assert "there is no user 'nobody-of-that-name'" in state["comment"]


@pytest.mark.root
@pytest.mark.parametrize(
    "wrong",
    [[], {"backends": ["local"]}, {"backend": {}}, {"backends": {"fast": {}}, "policy": {"db*": {"backends": ["nix"]}}}],
)
def test_wrong_controller_pillar_changes_nothing(wrong: Any, loaded: dict[str, Any], tmp_path: Path) -> None:
    pillar = controller(tmp_path)
    pillar["storage"]["controller"] = wrong
    [state] = loaded["modules"]["state.apply"]("storage.controller", pillar=pillar).values()
    assert state["result"] is False
    assert state["comment"].startswith(("INVALID_ARGUMENT: ", "FAILED_PRECONDITION: "))
    assert list(tmp_path.iterdir()) == []


def test_the_unit_is_installed_where_systemd_runs(loaded: dict[str, Any], minion_opts: dict[str, Any], checkout: Path) -> None:
    assert "salt-storage-reattach.service" in (checkout / "_utils/saltstorage/consumer/filesystems/fstab.py").read_text()
    text = loaded["modules"]["slsutil.renderer"](
        f"{checkout}/storage/files/salt-storage-reattach.service",
        default_renderer="jinja",
        boot=loaded["modules"]["storage.boot"](),
    )
    assert re.search(r"\nExecStart=/\S+ (-I )?-m saltstorage.consumer.boot --settings /\S+/boot.json\n", text)
    assert "salt-call" not in text
    # In the transaction that mounts, and before it; `x-systemd.after` in fstab orders and starts
    # nothing.
    assert "\nBefore=remote-fs-pre.target\n" in text
    assert "\nWantedBy=remote-fs.target multi-user.target" in text


def test_the_second_unit_asks_salt_for_passphrases_where_volumes_wait(loaded: dict[str, Any], checkout: Path) -> None:
    boot = loaded["modules"]["storage.boot"]()
    text = loaded["modules"]["slsutil.renderer"](
        f"{checkout}/storage/files/salt-storage-unlock.service",
        default_renderer="jinja",
        boot=boot,
        salt_call="/usr/bin/salt-call",
        config_dir="/etc/salt",
    )
    assert "ExecStart=/usr/bin/salt-call --config-dir=/etc/salt --local --retcode-passthrough " in text
    assert f"\nConditionPathExists={boot['locked']}\n" in text
    assert "\nAfter=salt-storage-reattach.service " in text
    assert "\nBefore=remote-fs-pre.target\n" in text


@pytest.mark.usefixtures("systemd")
def test_the_unit_is_part_of_the_volumes(render: Render) -> None:
    high = render("storage.volumes", {})
    for key in ("storage-consumer", "storage-consumer-unlock"):
        assert {f"{key}-unit", f"{key}-service"} <= set(high)
    settings = arguments(high["storage-consumer-settings"], "file.managed")
    assert settings["mode"] == "0600"
    assert json.loads(settings["contents"])["state_dir"] == os.path.dirname(settings["name"])


def test_the_consumer_gets_what_its_protocols_need(render: Render, checkout: Path) -> None:
    """R25: a disk with one path stays a disk, unless the administrator's own multipath.conf says
    otherwise.
    """
    high = render("storage.consumer", {"storage": {"consumer": {"protocols": ["iscsi", "fibre_channel", "multipath", "nvme"]}}})
    for protocol in ("iscsi", "fibre_channel"):
        # os-brick calls it to grow an attached volume.
        assert "lsscsi" in arguments(high[f"storage-consumer-{protocol}-packages"], "pkg.installed")["pkgs"]
    services = {key for key in high if "-service-" in key}
    assert services == {"storage-consumer-iscsi-service-iscsid", "storage-consumer-multipath-service-multipathd"}
    assert arguments(high["storage-consumer-multipath-config"], "file.managed")["replace"] is False
    assert "find_multipaths yes" in (checkout / "storage/files/multipath.conf").read_text()
    assert arguments(high["storage-consumer-nvme-module-nvme_tcp"], "kmod.present")["persist"] is True


@pytest.mark.parametrize(
    "consumer", [["iscsi"], {"protocol": ["iscsi"]}, {"protocols": "iscsi"}, {"protocols": ["iscsi", "iscsy"]}, {"protocols": [[]]}]
)
def test_a_wrong_consumer_pillar_installs_nothing(consumer: Any, render: Render) -> None:
    high = render("storage.consumer", {"storage": {"consumer": consumer}})
    assert list(high) == ["storage-consumer-invalid"]
    assert arguments(high["storage-consumer-invalid"], "storage_pillar.invalid")["comment"].startswith("INVALID_ARGUMENT: storage:consumer")


@pytest.mark.usefixtures("systemd")
def test_pillar_decides_where_the_unit_is_and_clean_removes_it_from_there(render: Render) -> None:
    pillar = {"storage": {"lookup": {"consumer": {"unit_dir": "/usr/local/lib/systemd/system"}}}}
    installed = arguments(render("storage.consumer", pillar)["storage-consumer-unit"], "file.managed")["name"]
    assert installed == "/usr/local/lib/systemd/system/salt-storage-reattach.service"
    removed = render("storage.consumer.clean", pillar)
    assert arguments(removed["storage-consumer-unit-clean"], "file.absent")["name"] == installed
    assert render("storage.clean", pillar).keys() == removed.keys()
    assert arguments(removed["storage-consumer-service-clean"], "service.disabled")["name"] == "salt-storage-reattach"


def test_nothing_is_removed_where_systemd_does_not_run(render: Render) -> None:
    assert render("storage.clean", {}) == {}


@pytest.mark.parametrize(
    "wrong", [["controller"], {"controler": {}}, {"controller": ["user"]}, {"consumer": {"unit_dir": "__slot__:salt:test.ping"}}]
)
def test_a_malformed_lookup_changes_nothing(wrong: Any, render: Render, tmp_path: Path) -> None:
    pillar = {**controller(tmp_path)["storage"], "lookup": wrong}
    for sls in ("storage.consumer", "storage.consumer.clean", "storage.controller"):
        [body] = render(sls, {"storage": pillar}).values()
        assert arguments(body, "storage_pillar.invalid")["comment"].startswith("INVALID_ARGUMENT: storage:lookup")


def test_a_minion_shows_the_settings_of_its_sls(loaded: dict[str, Any], minion_opts: dict[str, Any]) -> None:
    found = loaded["modules"]["storage_pillar.lookup"]()
    assert found["controller"]["config"] == "/etc/salt-storage/controller.yaml"
    assert found["consumer"]["unit_dir"] == "/etc/systemd/system"
    assert ("iscsi" in found["consumer"]["protocols"]) is (minion_opts["grains"]["os_family"] in ("Debian", "RedHat", "Suse"))


def test_an_unknown_system_is_told_where_to_name_its_packages(render: Render, minion_opts: dict[str, Any]) -> None:
    grains = minion_opts["grains"]
    before = grains.get("os_family")
    grains["os_family"] = "Plan9"
    try:
        pillar = {"storage": {"consumer": {"protocols": ["iscsi"]}}}
        [body] = [body for key, body in render("storage.consumer", pillar).items() if "iscsi" in key]
        assert "storage:lookup:consumer:protocols:iscsi" in arguments(body, "storage_pillar.invalid")["comment"]
        pillar["storage"]["lookup"] = {"consumer": {"protocols": {"iscsi": {"packages": ["iscsi-tools"]}}}}
        [body] = [body for key, body in render("storage.consumer", pillar).items() if "iscsi" in key]
        assert arguments(body, "pkg.installed") == {"pkgs": ["iscsi-tools"]}
    finally:
        grains["os_family"] = before
