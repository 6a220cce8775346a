"""The conformance suite itself: it runs against any provider, asks only for declared abilities,
and finds a leak.
"""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from saltstorage.providers import BackendConfig, Capability
from tests.conformance.backend import choose
from tests.conformance.world import World
from tests.conftest import CHECKOUT
from tests.unit.scratch_provider import ScratchProvider

pytestmark = pytest.mark.slow

NAME = "tests.unit.scratch_provider.ScratchProvider"


def scratch(folder: Path, **options: object) -> ScratchProvider:
    folder.mkdir(exist_ok=True)
    made = ScratchProvider(BackendConfig(name="x", options={"folder": str(folder), **options}, state_dir="", database=""))
    made.load()
    return made


@pytest.mark.parametrize("leak", [False, True])
def test_the_suite_runs_with_one_command_and_finds_a_leak(tmp_path, leak):
    (tmp_path / "volumes").mkdir()
    file = tmp_path / "backend.json"
    file.write_text(json.dumps({"provider": NAME, "folder": str(tmp_path / "volumes"), "leak": leak}))
    command = [sys.executable, "-m", "pytest", "-q", "--tb=line", "-p", "no:cacheprovider", "--basetemp", str(tmp_path / "temp")]
    only = ["-k", "test_a_life_leaves_nothing and volume or test_two_hosts"] if leak else []
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


SPECS = {"types": {"gold": {"extra_specs": {"tier": "gold"}}}, "refused": {"wrong": {"qos_specs": {"teir": 1}}}}


@pytest.mark.parametrize(
    ("options", "passed", "text"),
    [
        ({"conformance": SPECS}, 7, ""),
        ({"conformance": {"types": SPECS["types"]}}, 6, "does not know the specs that the backend must refuse"),
        ({}, 2, "does not know the specs to try"),
        # Such as a provider that asks the array only once the volume is there.
        ({"conformance": SPECS, "careless": True}, 6, "the refused volume is there"),
        # And a provider that does not know the specs that it declares.
        ({"conformance": SPECS, "specs": []}, 1, "there are no specs tier"),
    ],
)
def test_specs_are_those_of_the_backends_file(tmp_path, options, passed, text):
    (tmp_path / "volumes").mkdir()
    file = tmp_path / "backend.yaml"
    file.write_text(json.dumps({"provider": NAME, "folder": str(tmp_path / "volumes"), "specs": ["tier"], **options}))
    command = [sys.executable, "-m", "pytest", "-q", "--tb=line", "-p", "no:cacheprovider", "--basetemp", str(tmp_path / "temp"), "-rs"]
    command += ["-k", "specs or same_time or test_stats or test_the_remains", "tests/conformance", "--backend", str(file)]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False)
    assert int(re.search(r"(\d+) passed", done.stdout)[1]) == passed, done.stdout
    assert text in done.stdout
    assert done.returncode == (1 if "failed" in done.stdout else 0)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ("conformance: gold", "mapping with types"),
        ("conformance: {typs: {}}", "mapping with types"),
        ("conformance: {types: {gold: {extra_spec: {a: b}}}}", "did you mean 'extra_specs'"),
        ("conformance: {types: {gold: {extra_specs: {a: yes}}}}", "must be a text"),
        ("conformance: {refused: {gold: {}}}", "gold have no extra_specs or qos_specs"),
    ],
)
def test_specs_in_a_wrong_form_are_refused(tmp_path, given, text):
    file = tmp_path / "acme.yaml"
    file.write_text(f"volume_driver: x.Y\n{given}\n")
    with pytest.raises(pytest.UsageError, match=text):
        choose(str(file), "")


def test_specs_are_those_of_the_masters_types(tmp_path):
    """The types whose volumes come to the backend; a type without specs has nothing to try."""
    types = (
        "{gold: {backend: acme1, extra_specs: {a: b}}, any: {qos_specs: {c: 1}}, other: {backend: acme2, extra_specs: {a: b}}, none: {}}"
    )
    backends = "backends: {acme1: {volume_driver: x.Y}, acme2: {volume_driver: x.Y}}"
    (tmp_path / "master").write_text(f"storage: {{default_backend: acme1, {backends}, types: {types}}}\n")
    assert [kind.name for kind in choose("acme1", str(tmp_path / "master")).types] == ["gold", "any"]
    assert [kind.name for kind in choose("acme2", str(tmp_path / "master")).types] == ["other"]


def test_every_capability_is_tried():
    """A test or a life needs it; a mere look whether it is declared does not count."""
    needed = set()
    for file in (CHECKOUT / "tests" / "conformance").glob("test_*.py"):
        for call in ast.walk(ast.parse(file.read_text())):
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id in ("needs", "Life"):
                needed |= {
                    part.attr for part in ast.walk(call) if isinstance(part, ast.Attribute) and ast.unparse(part.value) == "Capability"
                }
    assert needed == {capability.name for capability in Capability}


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


def test_a_leftover_is_named(tmp_path):
    world = World(scratch(tmp_path / "volumes", leak=True))
    volume = world.volume()
    with pytest.raises(AssertionError, match=f"volume {volume.id} is left"):
        world.clean()


def test_a_backend_in_a_file_or_by_its_name(tmp_path):
    (tmp_path / "acme.yaml").write_text("provider: acme_salt.AcmeProvider\ntoken: s3cret\n")
    found = choose(str(tmp_path / "acme.yaml"), "")
    assert (found.provider, found.options) == ("acme_salt.AcmeProvider", {"token": "s3cret"})
    assert "s3cret" not in repr(found)
    (tmp_path / "master").write_text("storage: {backends: {acme1: {volume_driver: x.Y, san_ip: 192.0.2.1}}}\n")
    found = choose("acme1", str(tmp_path / "master"))
    assert (found.provider, found.options) == ("cinderlib", {"volume_driver": "x.Y", "san_ip": "192.0.2.1"})


@pytest.mark.parametrize(
    ("value", "master", "text"),
    [
        ("no.yaml", "", "no file"),
        ("./no", "", "no file"),
        ("acme1", "", "nor"),
        ("acme2", "storage: {backends: {acme1: {}}}", "known: acme1"),
    ],
)
def test_a_backend_that_does_not_exist_is_refused(tmp_path, value, master, text):
    path = tmp_path / "master"
    if master:
        path.write_text(master)
    with pytest.raises(pytest.UsageError, match=text):
        choose(value, str(path))
