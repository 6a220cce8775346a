"""Which Python runs the controller and os-brick."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from saltstorage.environment import location
from saltstorage.errors import FailedPreconditionError, InvalidArgumentError


@pytest.fixture
def made(tmp_path: Path) -> Path:
    python = tmp_path / "opt/salt-storage/bin/python"
    python.parent.mkdir(parents=True)
    python.symlink_to(sys.executable)
    return python


def test_the_storage_environment_comes_first(tmp_path: Path, made: Path) -> None:
    found = location.interpreter({"root_dir": str(tmp_path)}, role="controller")
    assert found == location.Interpreter(python=str(made))
    assert found.command("controller") == [str(made), "-I", "-m", "saltstorage.controller"]
    assert "PYTHONPATH" not in found.environ()
    assert found.environ()["PATH"].startswith(f"{made.parent}:"), "programs of its packages are found"


@pytest.mark.parametrize(
    ("storage", "role", "expected"),
    [
        ({"environment": "/srv/a"}, "controller", "/srv/a"),
        ({"environment": "/srv/a"}, "consumer", "/srv/a"),
        ({"environment": "/srv/a", "consumer": {"environment": "/srv/b/"}}, "consumer", "/srv/b"),
        ({"consumer": {"environment": "/srv/b"}}, "controller", "/opt/salt-storage"),
        (None, "consumer", "/opt/salt-storage"),
    ],
)
def test_options_name_the_folder(storage: Any, role: str, expected: str) -> None:
    assert location.folder({"storage": storage}, role) == expected


@pytest.mark.parametrize("value", ["relative", 7, ["/a"], "/a\0b"])
def test_a_wrong_folder_is_refused(value: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="storage:environment must be an absolute path"):
        location.interpreter({"storage": {"environment": value}}, role="controller")


def test_without_one_the_own_python_serves_where_it_can(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "x")
    found = location.interpreter({"root_dir": str(tmp_path)}, role="consumer")
    assert found.python == sys.executable
    assert "SECRET" not in found.environ()
    code = "import saltstorage.environment.location as found; print(found.__file__)"
    answer = subprocess.run([found.python, "-c", code], env=found.environ(), capture_output=True, text=True, check=True, cwd=tmp_path)
    assert answer.stdout.strip() == str(Path(location.__file__).resolve())


def test_without_packages_the_error_names_the_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "cinder" else find(name))
    with pytest.raises(FailedPreconditionError, match=r"no storage environment in .*/opt/salt-storage; .* storage\.environment"):
        location.interpreter({"root_dir": str(tmp_path)}, role="controller")
    assert location.interpreter({"root_dir": str(tmp_path)}, role="consumer").python == sys.executable


def test_the_package_is_imported_without_salt() -> None:
    code = (
        "import sys; sys.modules['salt'] = None\n"
        "import saltstorage.environment.location, saltstorage.ipc.sockets, saltstorage.ipc.child, saltstorage.spec, saltstorage.progress\n"
        "from saltstorage.errors import NotFoundError\n"
        "print(NotFoundError('x'))"
    )
    found = location.Interpreter(python=sys.executable, package=str(Path(location.__file__).resolve().parents[2]))
    answer = subprocess.run([found.python, "-c", code], env=found.environ(), capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "NOT_FOUND: x"
