"""The conformance suite itself: it runs against any provider, asks only for what that declares, and finds a leak."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from saltstorage.controller.providers.base import BackendConfig
from tests.conformance.backend import chosen
from tests.conformance.world import World
from tests.conftest import CHECKOUT

from .scratch_provider import ScratchProvider

NAME = "tests.unit.scratch_provider.ScratchProvider"


def scratch(folder: Path, **options: object) -> ScratchProvider:
    folder.mkdir(exist_ok=True)
    made = ScratchProvider(BackendConfig(name="x", options={"folder": str(folder), **options}, state_dir="", database=""))
    made.load()
    return made


@pytest.mark.parametrize("leak", [False, True])
def test_one_command(tmp_path, leak):
    (tmp_path / "volumes").mkdir()
    file = tmp_path / "backend.json"
    file.write_text(json.dumps({"provider": NAME, "folder": str(tmp_path / "volumes"), "leak": leak}))
    command = [sys.executable, "-m", "pytest", "-q", "--tb=line", "-p", "no:cacheprovider", "--basetemp", str(tmp_path / "temp")]
    only = ["-k", "test_life and volume or test_two_hosts"] if leak else []
    done = subprocess.run(
        [*command, *only, "tests/conformance", "--backend", str(file)], cwd=CHECKOUT, capture_output=True, text=True, check=False
    )
    assert done.returncode == (1 if leak else 0), done.stdout
    assert "the backend does not have multiattach" in done.stdout
    if leak:
        assert re.search(r"volume \S+ is left on the backend", done.stdout), done.stdout
    else:
        assert int(re.search(r"(\d+) passed", done.stdout)[1]) > 15
        assert list((tmp_path / "volumes").iterdir()) == []


def test_everything_is_undone_latest_first_whatever_fails(tmp_path):
    world = World(scratch(tmp_path / "volumes"))
    order = []
    volume = world.volume()
    world.undo.append(lambda: order.append("first"))
    world.undo.append(lambda: order.append(1 / 0))
    world.undo.append(lambda: order.append("last"))
    with pytest.raises(AssertionError, match="ZeroDivisionError"):
        world.clean()
    assert order == ["last", "first"]
    assert world.provider.volume_size(volume) is None


def test_what_is_left_is_named(tmp_path):
    world = World(scratch(tmp_path / "volumes", leak=True))
    volume = world.volume()
    with pytest.raises(AssertionError, match=f"volume {volume.id} is left"):
        world.clean()


def test_a_backend_in_a_file_or_by_its_name(tmp_path):
    (tmp_path / "acme.yaml").write_text("provider: acme_salt.AcmeProvider\ntoken: s3cret\n")
    found = chosen(str(tmp_path / "acme.yaml"), "")
    assert (found.provider, found.options) == ("acme_salt.AcmeProvider", {"token": "s3cret"})
    assert "s3cret" not in repr(found)
    (tmp_path / "master").write_text("storage: {root_helper: sudo, backends: {acme1: {volume_driver: x.Y, san_ip: 192.0.2.1}}}\n")
    found = chosen("acme1", str(tmp_path / "master"))
    assert (found.provider, found.options, found.root_helper) == ("cinderlib", {"volume_driver": "x.Y", "san_ip": "192.0.2.1"}, "sudo")


@pytest.mark.parametrize(
    ("value", "master", "text"),
    [
        ("no.yaml", "", "no file"),
        ("./no", "", "no file"),
        ("acme1", "", "nor"),
        ("acme2", "storage: {backends: {acme1: {}}}", "known: acme1"),
    ],
)
def test_no_such_backend(tmp_path, value, master, text):
    path = tmp_path / "master"
    if master:
        path.write_text(master)
    with pytest.raises(pytest.UsageError, match=text):
        chosen(value, str(path))
