"""The storage environment, built by the real venv and pip from a folder with one small wheel."""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

import saltstorage
from saltstorage.environment import building, pythons
from saltstorage.environment.building import Plan
from saltstorage.errors import AlreadyExistsError, FailedPreconditionError, InternalError, ResourceExhaustedError, UnavailableError

pytestmark = [pytest.mark.root, pytest.mark.slow]

PACKAGE = str(Path(saltstorage.__file__).parent.parent)


def wheel(folder: Path, version: str) -> str:
    """Make a wheel of a package with one module, and return its line in a lock file."""
    info = f"tiny-{version}.dist-info"
    files = {
        "tiny.py": f"VERSION = {version!r}\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: tiny\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    lines = []
    for name, text in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        lines.append(f"{name},sha256={digest},{len(text)}")
    files[f"{info}/RECORD"] = "\n".join([*lines, f"{info}/RECORD,,"]) + "\n"
    folder.mkdir(exist_ok=True)
    path = folder / f"tiny-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return f"tiny=={version} --hash=sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}\n"


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plan:
    monkeypatch.setattr(building, "_PROVES", {"consumer": ("tiny", "saltstorage.environment.location"), "controller": ("tiny",)})
    lock = tmp_path / "consumer.txt"
    lock.write_text(wheel(tmp_path / "wheels", "1.0"))
    (tmp_path / "opt").mkdir()
    return Plan(folder=str(tmp_path / "opt/salt-storage"), role="consumer", lock=str(lock), wheels=str(tmp_path / "wheels"))


def version(plan: Plan) -> str:
    """Return the version of the package in the environment in use, by its own Python."""
    command = [f"{plan.folder}/bin/python", "-I", "-c", "import tiny, saltstorage; print(tiny.VERSION)"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def test_it_is_built_once_and_salts_python_stays_as_it_is(plan: Plan) -> None:
    site = Path(pytest.__file__).parent.parent
    before = {path.name for path in site.iterdir()}
    assert building.needed(plan) == "there is none yet"
    assert building.build(plan)
    assert version(plan) == "1.0"
    assert not building.build(plan)
    assert {path.name for path in site.iterdir()} == before
    stamp = building.status(plan.folder).stamp
    assert (stamp["role"], stamp["version"]) == ("consumer", saltstorage.__version__)
    # Others can run it, and change nothing.
    for path in Path(os.path.realpath(plan.folder)).rglob("*"):
        mode = path.lstat().st_mode
        assert path.is_symlink() or not mode & 0o022, path
    assert os.stat(plan.folder).st_mode & 0o777 == 0o755
    assert building.remove(plan.folder)
    assert list((Path(plan.folder).parent).iterdir()) == []
    assert not building.remove(plan.folder)


def test_a_new_lock_file_is_switched_to_and_a_failed_build_is_not(plan: Plan, tmp_path: Path) -> None:
    lock = Path(plan.lock)
    building.build(plan)
    first = os.path.realpath(plan.folder)
    good = wheel(tmp_path / "wheels", "2.0")
    lock.write_text(good.replace("sha256:", "sha256:0")[:-2] + "\n")
    with pytest.raises(FailedPreconditionError, match=r"still is: an index or a folder of wheels has other files"):
        building.build(plan)
    lock.write_text("tiny==3.0 --hash=sha256:" + "0" * 64 + "\n")
    with pytest.raises(UnavailableError, match="check the index"):
        building.build(plan)
    lock.write_text("tiny==2.0\n")
    with pytest.raises(InternalError, match="hash"):
        building.build(plan)
    assert os.path.realpath(plan.folder) == first
    assert version(plan) == "1.0"
    lock.write_text(good)
    assert building.needed(plan) == "the lock file has changed"
    assert building.build(plan)
    assert version(plan) == "2.0"
    # Processes may still run from the one before.
    assert os.path.isdir(first)
    lock.write_text(good + "# another\n")
    building.build(plan)
    assert not os.path.isdir(first)


@pytest.mark.parametrize("damage", ["bin/python", building.STAMP, "lib/python3*/site-packages/tiny.py"])
def test_a_damaged_one_is_found_and_replaced(plan: Plan, damage: str) -> None:
    building.build(plan)
    [path] = Path(plan.folder).glob(damage)
    path.unlink()
    assert building.status(plan.folder).problem
    assert building.build(plan)
    assert building.status(plan.folder).problem == ""
    assert version(plan) == "1.0"


def code(plan: Plan, tail: str = "") -> list[str]:
    """Return a command that builds in a process of its own."""
    text = (
        "from saltstorage.environment import building\n"
        "building._PROVES = {'consumer': ('tiny',)}\n"
        f"{tail}\n"
        f"print(building.build(building.{plan!r}))\n"
    )
    return [sys.executable, "-c", text]


def start(command: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(command, env={**os.environ, "PYTHONPATH": PACKAGE}, stdout=subprocess.PIPE, text=True)


def test_a_killed_build_leaves_what_was_and_the_next_cleans_up(plan: Plan, tmp_path: Path) -> None:
    building.build(plan)
    Path(plan.lock).write_text(wheel(tmp_path / "wheels", "2.0"))
    killed = start(code(plan, "building._switch = lambda *args: (print('now', flush=True), __import__('time').sleep(600))"))
    assert killed.stdout is not None
    assert killed.stdout.readline() == "now\n"
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert version(plan) == "1.0"
    assert building.build(plan)
    assert version(plan) == "2.0"


def test_of_two_builds_at_once_one_builds(plan: Plan) -> None:
    both = [start(code(plan)) for _ in range(2)]
    assert sorted(process.communicate()[0].strip() for process in both) == ["False", "True"]
    assert version(plan) == "1.0"


def test_what_is_not_ours_is_left_alone(plan: Plan, tmp_path: Path) -> None:
    Path(plan.folder).mkdir()
    for call in (lambda: building.build(plan), lambda: building.remove(plan.folder)):
        with pytest.raises(AlreadyExistsError, match="no storage environment of this formula"):
            call()
    Path(plan.folder).rmdir()
    Path(plan.folder).symlink_to(tmp_path)
    with pytest.raises(AlreadyExistsError, match="a link to .*, which the formula did not make"):
        building.build(plan)
    Path(plan.folder).unlink()
    (tmp_path / "opt").chmod(0o777)
    with pytest.raises(FailedPreconditionError, match="others than root can write"):
        building.build(plan)


def test_a_controllers_environment_serves_a_consumer(plan: Plan) -> None:
    assert building.role_for(plan.folder, "consumer") == "consumer"
    building.build(Plan(**{**vars(plan), "role": "controller"}))
    assert building.role_for(plan.folder, "consumer") == "controller"


@pytest.fixture
def fake(tmp_path: Path) -> Callable[[str, str], str]:
    """Makes a program that answers as a Python would."""

    def make(name: str, answer: str) -> str:
        path = tmp_path / name
        path.write_text(f"#!/bin/sh\necho '{answer}'\n")
        path.chmod(0o755)
        return str(path)

    return make


def test_the_python_is_the_distributions(fake: Callable[[str, str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pythons, "_FOLDERS", (str(tmp_path),))
    with pytest.raises(FailedPreconditionError, match="no Python 3.11 to 3.14"):
        pythons.find()
    fake("python3", '[[3, 9, 2], "/usr/bin/python3.9", true, true]')
    with pytest.raises(FailedPreconditionError, match=r"python3 is Python 3\.9\.2, and 3\.11 to 3\.14 are possible"):
        pythons.find()
    fake("python3.11", '[[3, 11, 2], "/usr/bin/python3.11", true, false]')
    with pytest.raises(FailedPreconditionError, match="python3.11 lacks the modules venv or ensurepip"):
        pythons.find()
    fake("python3.12", '[[3, 12, 1], "/opt/saltstack/salt/bin/python3.12", true, true]')
    with pytest.raises(FailedPreconditionError, match="Salt's own Python"):
        pythons.find()
    good = fake("python3.13", '[[3, 13, 0], "/usr/bin/python3.13", true, true]')
    assert pythons.find() == pythons.Python(path=good, version="3.13.0")
    with pytest.raises(FailedPreconditionError, match="no Python that runs"):
        pythons.find(str(tmp_path / "none"))
    with pytest.raises(FailedPreconditionError, match="of a virtual environment"):
        pythons.find(fake("python", '[[3, 12, 1], "/srv/x/bin/python", false, true]'))


def test_a_full_disk_is_said(plan: Plan, tmp_path: Path) -> None:
    small = tmp_path / "opt"
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m,mode=0755", "tmpfs", str(small)], check=True)
    try:
        with pytest.raises(ResourceExhaustedError, match=r"needs 250 MiB in .*, and [01] MiB are free; make room"):
            building.build(plan)
        assert [path.name for path in Path(f"{plan.folder}.d").iterdir()] == [".lock"]
    finally:
        subprocess.run(["umount", str(small)], check=True)
    shutil.rmtree(small)
