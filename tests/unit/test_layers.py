"""The walls between the rooms: the sources import all that ``docs/layers.toml`` allows, no more."""

from __future__ import annotations

import collections
import graphlib
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import CHECKOUT


@pytest.fixture(scope="module")
def layers():
    spec = importlib.util.spec_from_file_location("layers", CHECKOUT / "docs/_ext/layers.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


@pytest.fixture(scope="module")
def rooms(layers):
    return layers.load(CHECKOUT / "docs/layers.toml")


@pytest.fixture(scope="module")
def arrows(layers):
    return layers.arrows(CHECKOUT)


def above(rooms, layers, name):
    """The rooms that import a room, themselves or through others."""
    return {other for other in rooms if name in layers.reach(rooms, other)}


def test_every_source_is_in_a_room_and_every_room_has_sources(layers, rooms):
    found = set(layers.files(CHECKOUT).values())
    assert found == set(rooms)
    assert {name: room.folder for name, room in rooms.items() if name != layers.GROUND} == {
        name: name.replace(".", "/") for name in rooms if name != layers.GROUND
    }


def test_a_room_may_import_only_rooms_that_stand_below_it(rooms):
    below = set()
    for name, room in rooms.items():
        assert set(room.imports) <= below, f"{name} imports upwards"
        below.add(name)


def test_no_arrow_beside_the_table(layers, rooms, arrows):
    wrong = [
        f"{arrow.file}:{arrow.line}: {arrow.room} may not import {arrow.target}"
        for arrow in arrows
        if arrow.target not in {layers.GROUND, *rooms[arrow.room].imports, *rooms[arrow.room].libraries}
    ]
    assert not wrong, "docs/layers.toml does not allow this:\n" + "\n".join(wrong)


def test_no_permission_that_nobody_uses(rooms, arrows):
    used = {(arrow.room, arrow.target) for arrow in arrows}
    unused = [
        f"{name} -> {other}" for name, room in rooms.items() for other in (*room.imports, *room.libraries) if (name, other) not in used
    ]
    assert not unused, f"docs/layers.toml allows what no source imports: {', '.join(unused)}"


def test_the_ground_knows_no_room(layers, rooms, arrows):
    assert not rooms[layers.GROUND].imports
    assert not [arrow for arrow in arrows if arrow.room == layers.GROUND]


def test_the_bus_and_the_consumer_do_not_know_each_other(layers, rooms):
    consumer = {name for name in rooms if name.split(".")[0] == "consumer"}
    assert not consumer & above(rooms, layers, "bus")
    assert not layers.reach(rooms, "bus")


def test_the_consumer_knows_no_controller(layers, rooms):
    assert not {name for name in layers.reach(rooms, "consumer") if name.startswith(("controller", "providers", "drivers", "flow"))}


def test_nothing_but_loader_files_imports_loader_files(rooms):
    assert not [name for name, room in rooms.items() for other in room.imports if rooms[other].loader]


def test_no_ring_of_files(layers):
    """Imports for type checking alone do not run, so they close no ring."""
    graph = collections.defaultdict(set)
    for path, target, _line in layers.links(CHECKOUT, types=False):
        if target.startswith(layers.PACKAGE) and target != layers.module_name(path):
            graph[layers.module_name(path)].add(target)
    assert list(graphlib.TopologicalSorter(graph).static_order())


@pytest.mark.parametrize(
    ("path", "source", "expected"),
    [
        ("_utils/saltstorage/flow/flow.py", "from ..consumer.consumer import Consumer", "saltstorage.consumer.consumer.Consumer"),
        ("_utils/saltstorage/flow/flow.py", "def f():\n    from .batch import Batch", "saltstorage.flow.batch.Batch"),
        ("_utils/saltstorage/bus/__init__.py", "from . import keys", "saltstorage.bus.keys"),
        ("_utils/saltstorage/model.py", "from . import errors", "saltstorage.errors"),
        ("_states/storage_volume.py", "from saltstorage.plans import mount", "saltstorage.plans.mount"),
        ("_runners/storage.py", "import sqlalchemy.orm as orm", "sqlalchemy.orm"),
    ],
)
def test_an_import_is_read_in_each_of_its_forms(layers, path, source, expected):
    assert [name for name, _line in layers.imported(source, Path(path))] == [expected]


def test_an_import_for_type_checking_is_told_apart(layers):
    source = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from .model import (\n        Volume,\n    )\nfrom . import errors"
    path = Path("_utils/saltstorage/spec.py")
    with_types = [name for name, _line in layers.imported(source, path)]
    without = [name for name, _line in layers.imported(source, path, types=False)]
    assert set(with_types) - set(without) == {"saltstorage.model.Volume"}


def test_the_figure_and_the_table_show_every_room(layers, rooms):
    figure, table = layers.draw(rooms), "\n".join(layers.table(rooms))
    for name, room in rooms.items():
        assert f"<title>{name}: " in figure
        assert room.purpose in table
    assert figure.count('class="arrow"') == len(layers.needed(rooms))


def test_loading_a_loader_file_loads_no_walled_library(layers):
    """Without the controller's packages, a master has a runner all the same, and it says so."""
    code = """
import runpy, sys
for path in sys.argv[2:]:
    runpy.run_path(path, {"__opts__": {}})
print(*(name for name in sys.argv[1].split(",") if name in sys.modules))
"""
    loader_files = [str(CHECKOUT / path) for path in layers.files(CHECKOUT) if path.parts[0].startswith("_") and path.parts[0] != "_utils"]
    done = subprocess.run(
        [sys.executable, "-c", code, ",".join(layers.WALLED), *loader_files],
        env={**os.environ, "PYTHONPATH": str(CHECKOUT / "_utils")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == ""
