"""A new attribute of a volume touches five files: the specification, the schema, the states, the
runner and the docs.
"""

from __future__ import annotations

import ast
import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest

from saltstorage.controller import reports
from saltstorage.controller.catalog import schema
from saltstorage.model import Volume
from saltstorage.pillar import rendering
from saltstorage.spec import ATTRIBUTES, PARAMETERS, Attributes, VolumeSpec, attributes_of

ROOT = Path(__file__).parents[2]
PACKAGE = "_utils/saltstorage"
#: The docs are the fifth.
DEFINITION = {
    f"{PACKAGE}/spec.py",
    f"{PACKAGE}/controller/catalog/schema.py",
    "_states/storage_volume.py",
    "_runners/storage.py",
}
#: Files, or rooms, that act on one attribute, and why they must know it.
ACTS = {
    ("labels", f"{PACKAGE}/validate.py"): "the check of labels, named after them",
    ("labels", f"{PACKAGE}/controller/catalog/catalog.py"): "keeps the index of labels as the volume's row is",
    ("labels", f"{PACKAGE}/controller/catalog/listing.py"): "finds volumes by their labels",
    ("description", f"{PACKAGE}/validate.py"): "the check of a description, named after it",
    ("description", f"{PACKAGE}/controller/cinder/"): "the description of a driver, which is another one",
    ("description", f"{PACKAGE}/controller/__main__.py"): "the description of a program in its help, which is another one",
    ("description", f"{PACKAGE}/consumer/boot.py"): "the same",
    ("protected", f"{PACKAGE}/rules.py"): "refuses to delete a protected volume",
    ("protected", f"{PACKAGE}/plans/"): "refuses to delete all snapshots of a protected volume",
    ("retain", f"{PACKAGE}/rules.py"): "decides whether the data stays when the volume is deleted",
    ("retain", f"{PACKAGE}/controller/access/policy.py"): "the rule of the policy on who may leave data on a backend",
    ("retain", f"{PACKAGE}/controller/arguments.py"): "an argument of delete",
    ("retain", f"{PACKAGE}/controller/operations/"): "an argument of delete, and the policy's answer in the inventory",
    ("retain", f"{PACKAGE}/flow/"): "an argument of delete, and the policy's answer in the inventory",
    ("retain", f"{PACKAGE}/pillar/"): "a parameter of the state absent",
    ("retain", f"{PACKAGE}/plans/"): "a parameter of the state absent",
}


def uses(path: Path) -> Iterator[str]:
    """Yield the attributes that a file names: as a parameter, a field, an attribute of an object,
    or a text such as a key.
    """
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute):
            name = node.attr
        elif isinstance(node, ast.arg | ast.keyword):
            name = node.arg
        elif isinstance(node, ast.Constant):
            name = node.value
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            name = node.target.id
        else:
            continue
        if name in ATTRIBUTES:
            yield name


@pytest.fixture(scope="module")
def found():
    """All files of the product by the attributes that they name."""
    files = [path for folder in ("_utils", "_states", "_runners", "_modules", "_engines") for path in (ROOT / folder).rglob("*.py")]
    return {attribute: {str(p.relative_to(ROOT)) for p in files if attribute in set(uses(p))} for attribute in ATTRIBUTES}


@pytest.mark.parametrize("attribute", ATTRIBUTES)
def test_an_attribute_is_named_in_its_definition_and_where_something_acts_on_it(found, attribute):
    acts = tuple(place for name, place in ACTS if name == attribute)
    assert found[attribute] >= DEFINITION
    assert [path for path in sorted(found[attribute] - DEFINITION) if not path.startswith(acts)] == []


@pytest.mark.parametrize(("attribute", "place"), ACTS)
def test_the_list_of_those_that_act_has_no_stale_entry(found, attribute, place):
    assert any(path.startswith(place) for path in found[attribute]), ACTS[attribute, place]


def parameters(file: str, function: str) -> set[str]:
    """Return the parameters of a function in a loader file."""
    [found] = [n for n in ast.parse((ROOT / file).read_text()).body if isinstance(n, ast.FunctionDef) and n.name == function]
    return {argument.arg for argument in found.args.args}


def test_every_field_is_a_column_and_every_column_a_field():
    assert {column.name for column in schema.volumes.c} == {f.name for f in dataclasses.fields(Volume)}


@pytest.mark.parametrize("function", ["present", "connected", "mounted"])
def test_states_and_pillar_take_every_parameter(function):
    assert set(PARAMETERS) <= parameters("_states/storage_volume.py", function)
    assert set(PARAMETERS) <= set(rendering.PARAMETERS[function])


def test_the_runner_takes_every_parameter():
    assert set(PARAMETERS) <= parameters("_runners/storage.py", "create")
    assert set(ATTRIBUTES) <= parameters("_runners/storage.py", "update")


def test_a_specification_crosses_the_wire_whole():
    spec = VolumeSpec(
        size=2,
        backend="local",
        pool="ssd*",
        type="gold",
        source={"kind": "snapshot", "name": "cut"},
        resize=False,
        attributes={"labels": {"env": "prod"}, "description": "Orders", "protected": True, "retain": False},
    )
    assert set(spec.to_wire()) == set(PARAMETERS)
    assert VolumeSpec.decode(spec.to_wire()) == spec
    assert VolumeSpec.decode_optional({"name": "data", "resize": True, "size": None}) is None


def test_records_and_reports_show_every_attribute():
    spec = VolumeSpec.decode({"size": 1, "labels": {"env": "prod"}, "description": "Orders", "protected": True, "retain": True})
    volume = Volume(id="1", owner="db1", name="data", backend="local", size=1, **spec.attributes)
    assert attributes_of(volume) == spec.attributes
    assert Volume.from_wire(volume.to_wire()) == volume
    assert {name: reports.volume(volume, [])[name] for name in ATTRIBUTES} == spec.attributes
    assert attributes_of(Attributes()) == {"labels": {}, "description": "", "protected": False, "retain": False}
