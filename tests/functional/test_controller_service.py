"""The SLS of the controller's process: each choice of the administrator, as Salt renders it, and
the way from one to another.
"""

from __future__ import annotations

import grp
import os
import pwd
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from .test_sls import Render, arguments

UNIT = "salt-storage-controller.service"
USER = "salt-storage"
NEW = "no-such-user-yet"


def pillar(controller_user: str = "", controller: dict[str, Any] | None = None, **lookup: Any) -> dict[str, Any]:
    backend = {"volume_driver": "x.Y", "san_password": "secret"}
    settings = {"user": "root", "controller_user": controller_user, **lookup}
    return {"storage": {"controller": {"backends": {"fast": backend}, **(controller or {})}, "lookup": {"controller": settings}}}


@pytest.fixture
def unit(loaded: dict[str, Any], render: Render, checkout: Path) -> Callable[..., dict[str, dict[str, list[str]]]]:
    """Return a function that renders the unit, and returns its sections."""

    def show(*args: Any, **settings: Any) -> dict[str, dict[str, list[str]]]:
        managed = arguments(render("storage.controller", pillar(*args, **settings))["storage-controller-unit"], "file.managed")
        assert managed["source"] == f"salt://storage/files/{UNIT}"
        text = loaded["modules"]["slsutil.renderer"](f"{checkout}/storage/files/{UNIT}", default_renderer="jinja", **managed["context"])
        return sections(text)

    return show


def sections(text: str) -> dict[str, dict[str, list[str]]]:
    """Return the values of each key of each section of a unit."""
    found: dict[str, dict[str, list[str]]] = {}
    section: dict[str, list[str]] = {}
    for line in text.splitlines():
        if line.startswith("["):
            section = found.setdefault(line.strip("[]"), {})
        elif line and not line.startswith("#"):
            key, _, value = line.partition("=")
            section.setdefault(key, []).append(value)
    return found


def order(loaded: dict[str, Any], given: dict[str, Any]) -> list[str]:
    """Return the ids of the states, in the order in which Salt comes to them in a dry run; whether
    they would succeed on this machine does not matter.
    """
    states = loaded["modules"]["state.apply"]("storage.controller", pillar=given, test=True)
    assert isinstance(states, dict), states
    return [state["__id__"] for state in sorted(states.values(), key=lambda state: state["__run_num__"])]


@pytest.mark.root
@pytest.mark.usefixtures("systemd")
def test_the_engine_starts_the_controller_by_default_and_no_unit_is_left(render: Render, loaded: dict[str, Any]) -> None:
    high = render("storage.controller", pillar())
    assert arguments(high["storage-controller-process"], "service.dead") == {
        "name": "salt-storage-controller",
        "enable": False,
        "require_in": [{"file": "storage-controller-state-dir"}, {"file": "storage-controller-config"}],
    }
    assert arguments(high["storage-controller-unit"], "file.absent")["name"] == f"/etc/systemd/system/{UNIT}"
    assert "storage-controller-user" not in high
    assert engine(high) == {"config": "/etc/salt-storage/controller.yaml"}
    ids = order(loaded, pillar())
    # The service ends before its files change hands, and the engine's own controller starts after.
    wanted = ["process", "state-dir", "config", "engine", "service"]
    assert [one for one in ids if one.removeprefix("storage-controller-") in wanted] == [f"storage-controller-{one}" for one in wanted]


def engine(high: dict[str, Any]) -> Any:
    return arguments(high["storage-controller-engine"], "file.serialize")["dataset"]["storage"]


@pytest.mark.root
@pytest.mark.usefixtures("systemd")
@pytest.mark.parametrize("user", [NEW, "root", "nobody"])
def test_a_service_has_its_own_user_and_the_files_are_that_users(user: str, render: Render, loaded: dict[str, Any]) -> None:
    given = pillar(user, {"workers": 3, "hang_timeout": 5, "lock_timeout": 9})
    high = render("storage.controller", given)
    # The engine cannot read the file of the controller, so its settings are in the master's
    # configuration, and no secret is.
    socket = "/run/salt-storage/controller.sock"
    assert engine(high) == {"socket": socket, "controller_user": user, "workers": 3, "hang_timeout": 5}
    group = grp.getgrgid(pwd.getpwnam(user).pw_gid).gr_name if user != NEW else NEW
    for name, function, mode in (("state-dir", "file.directory", "0700"), ("config", "file.serialize", "0600")):
        found = arguments(high[f"storage-controller-{name}"], function)
        assert (found["user"], found["group"], found["mode"]) == (user, group, mode)
    for name in ("state-parent", "config-dir"):
        found = arguments(high[f"storage-controller-{name}"], "file.directory")
        assert (found["user"], found["group"], found["mode"]) == ("root", "root", "0755"), "who can rename the folder, chooses the file"
    made = arguments(high["storage-controller-user"], "user.present") if user != "root" else {}
    # An account of the administrator's keeps its shell.
    assert (made.get("system"), "shell" in made) == ((True, True) if user == NEW else (None, False))
    running = arguments(high["storage-controller-process"], "service.running")
    assert (running["name"], running["enable"]) == ("salt-storage-controller", True)
    assert {"file": "storage-controller-config"} in running["watch"]
    assert "storage-environment" in high, "a service cannot use the Python of Salt"
    ids = order(loaded, given)
    wanted = ["user", "engine", "service", "state-dir", "config", "process"][user == "root" :]
    assert [one for one in ids if one.removeprefix("storage-controller-") in wanted] == [f"storage-controller-{one}" for one in wanted]


@pytest.mark.root
@pytest.mark.usefixtures("systemd")
def test_a_unit_of_a_user_of_its_own(unit: Callable[..., Any], loaded: dict[str, Any]) -> None:
    found = unit(USER, group="daemon", hang_timeout=None)["Service"]
    assert (found["User"], found["Group"], found["SupplementaryGroups"]) == ([USER], [USER], ["daemon"])
    folder = loaded["modules"]["storage_environment.folder"]("controller")
    assert shlex.split(found["ExecStart"][0]) == [
        f"{folder}/bin/python",
        *("-I", "-m", "saltstorage.controller"),
        *("--config", "/etc/salt-storage/controller.yaml"),
        *("--socket", "/run/salt-storage/controller.sock"),
        *("--group", "daemon", "--user", "root", "--id", "min"),
    ]
    assert found["Environment"][0].startswith(f"PATH={folder}/bin:")
    assert (found["RuntimeDirectory"], found["RuntimeDirectoryMode"]) == (["salt-storage"], ["0755"])
    assert (found["StateDirectory"], found["StateDirectoryMode"]) == (["salt-storage/controller"], ["0700"])
    assert (found["Restart"], found["Type"], found["WatchdogSec"]) == (["on-failure"], ["notify"], ["30"])
    assert (found["NoNewPrivileges"], found["CapabilityBoundingSet"], found["ProtectSystem"]) == (["yes"], [""], ["full"])


@pytest.mark.root
@pytest.mark.usefixtures("systemd")
def test_a_unit_of_root_can_use_devices_modules_and_mounts(unit: Callable[..., Any]) -> None:
    service = unit("root", {"state_dir": "/srv/state", "hang_timeout": 90}, group="daemon")
    found = service["Service"]
    assert found["User"] == found["Group"] == ["root"]
    assert "SupplementaryGroups" not in found
    assert "StateDirectory" not in found
    assert service["Unit"]["RequiresMountsFor"] == ["/srv/state"]
    assert found["WatchdogSec"] == ["90"]
    assert found["NoNewPrivileges"] == ["yes"]
    assert [key for key in found if key.startswith(("Protect", "Private", "Capability", "Device"))] == []


@pytest.mark.root
@pytest.mark.usefixtures("systemd")
@pytest.mark.parametrize("user", [USER, "root"])
def test_systemd_itself_accepts_the_unit(user: str, render: Render, loaded: dict[str, Any], checkout: Path, short_dir: Path) -> None:
    """With names that need quotes."""
    given = pillar(user, {"state_dir": "/srv/a b/100%"}, config="/etc/$HOME/c.yaml", service="")
    context = arguments(render("storage.controller", given)["storage-controller-unit"], "file.managed")["context"]
    context["unit"]["command"] = f"/bin/true {context['unit']['command']}"
    text = loaded["modules"]["slsutil.renderer"](f"{checkout}/storage/files/{UNIT}", default_renderer="jinja", **context)
    (short_dir / UNIT).write_text(text)
    done = subprocess.run(["systemd-analyze", "verify", str(short_dir / UNIT)], capture_output=True, text=True, check=False)
    assert UNIT not in done.stderr, done.stderr
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"controller_user": "a b"}, "controller_user must be the name of a user"),
        ({"controller_user": ["root"]}, "controller_user must be the name of a user"),
        ({"controller_user": USER, "socket": "run/x"}, "socket must be an absolute path"),
        ({"controller_user": USER, "controller": {"metadata_database": "sdb://vault/x"}}, "metadata_database is an sdb:// URI"),
        ({"controller": {"root_helper": "sudo"}}, "set storage:lookup:controller:controller_user to root"),
        ({"controller_user": USER}, "does not run on this host"),
    ],
)
def test_what_cannot_be_is_said_before_anything_changes(given: dict[str, Any], words: str, render: Render) -> None:
    [state] = [value for key, value in render("storage.controller", pillar(**given)).items() if not key.startswith("storage-environment")]
    assert words in arguments(state, "storage_pillar.invalid")["comment"]


@pytest.mark.root
@pytest.mark.usefixtures("systemd")
def test_clean_removes_the_service_and_keeps_the_catalog(render: Render) -> None:
    high = render("storage.controller.clean", pillar(USER))
    assert arguments(high["storage-controller-process-clean"], "service.dead")["enable"] is False
    assert arguments(high["storage-controller-unit-clean"], "file.absent")["name"] == f"/etc/systemd/system/{UNIT}"
    assert not any("state" in key for key in high)


@pytest.mark.root
@pytest.mark.usefixtures("systemd")
def test_only_a_controllers_directory_is_given_away_with_its_files(render: Render, tmp_path: Path) -> None:
    """A mistyped `state_dir` costs no more than that folder's owner."""

    def moved() -> bool:
        found = render("storage.controller", pillar("nobody", {"state_dir": str(tmp_path)}))
        stopped = "storage-controller-process-stopped" in found
        assert stopped == ("recurse" in arguments(found["storage-controller-state-dir"], "file.directory"))
        return stopped

    assert not moved()
    (tmp_path / "locks").mkdir()
    assert moved()
    os.chown(tmp_path, pwd.getpwnam("nobody").pw_uid, -1)
    assert not moved()


def test_the_table_of_the_formulas_defaults_is_complete(checkout: Path) -> None:
    defaults = yaml.safe_load((checkout / "storage/defaults.yaml").read_text())["controller"]
    assert (defaults["controller_user"], defaults["socket"]) == ("", "/run/salt-storage/controller.sock")
