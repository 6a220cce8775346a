"""Salt's loader after sync_all: every file loads, every function named anywhere exists, and the
docstrings keep their promises.
"""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path
from typing import Any

import pytest

#: Loader and the names of the project in it.
OURS = {
    "modules": ("storage", "storage_admin", "storage_controller", "storage_environment", "storage_pillar"),
    "states": ("storage_volume", "storage_snapshot", "storage_controller", "storage_environment", "storage_pillar"),
    "runners": ("storage", "storage_admin"),
    "engines": ("storage",),
}
#: Files whose functions appear under another file's name.
VIRTUAL = {"storage_admin": "storage"}


def functions(loaded: dict[str, Any], checkout: Path) -> list[tuple[str, str, Any]]:
    """Return loader, name and function as loaded, of every public function that the files
    define.
    """
    found = []
    for kind, names in OURS.items():
        for name in names:
            body = ast.parse((checkout / f"_{kind}" / f"{name}.py").read_text()).body
            defined = [node.name.rstrip("_") for node in body if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")]
            virtual = VIRTUAL.get(name, name)
            found += [(kind, f"{virtual}.{function}", loaded[kind][f"{virtual}.{function}"]) for function in defined]
    return found


def test_every_loader_file_loads(loaded: dict[str, Any], checkout: Path) -> None:
    for kind, names in OURS.items():
        files = {path.stem for path in (checkout / f"_{kind}").glob("*.py")}
        assert files == set(names), "name the new file in OURS"
    assert {full.split(".")[0] for _kind, full, _function in functions(loaded, checkout)} == set().union(*OURS.values()) - set(VIRTUAL)


def test_the_package_is_imported_from_where_salt_syncs_it(loaded: dict[str, Any], minion_opts: dict[str, Any]) -> None:
    synced = Path(minion_opts["extension_modules"]) / "utils" / "saltstorage"
    assert (synced / "controller" / "operations" / "core.py").is_file(), "nested packages are synced"
    assert list(loaded["modules"]["storage_pillar.volumes"]()) == ["storage-volumes-none"]


def test_every_function_has_an_example(loaded: dict[str, Any], checkout: Path) -> None:
    without = []
    for kind, full, function in functions(loaded, checkout):
        doc = inspect.getdoc(function) or ""
        example = ".. code-block:: yaml" if kind == "states" else ".. code-block:: bash"
        if kind != "engines" and (example not in doc or full not in doc.split(example, 1)[1]):
            without.append(f"{kind}: {full}")
    assert without == []


def test_stated_parameters_and_defaults_are_those_of_the_signature(loaded: dict[str, Any], checkout: Path) -> None:
    wrong = []
    for kind, full, function in functions(loaded, checkout):
        doc = inspect.getdoc(function) or ""
        stated = dict(re.findall(r"^(\w+)(?: : (.*))?$(?=\n    \S)", doc, re.MULTILINE))
        for parameter in inspect.signature(function).parameters.values():
            if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                continue
            default = "" if parameter.default is parameter.empty else repr(parameter.default)
            if stated.get(parameter.name, "missing").replace('"', "'") not in (default, default.strip("'")):
                wrong.append(f"{kind}: {full}: {parameter.name}: says {stated.get(parameter.name, 'nothing')!r}, is {default!r}")
    assert wrong == []


#: `salt '*' module.function`, `salt-run module.function`, `salt-call module.function` and
#: `storage_*.function` in YAML.
_CALL = re.compile(r"(?:salt(?:-call)?(?: -\S+| --\S+)* (?:'[^']+' |\w+\d* )?|salt-run(?: --\S+)* )(storage\w*\.\w+)")
_STATE = re.compile(r"(storage_(?:volume|snapshot|pillar|environment|controller)\.\w+):?$", re.MULTILINE)


@pytest.mark.parametrize("where", ["docs", "README.rst", "pillar.example", "demo", "storage", "_modules", "_states", "_runners", "_utils"])
def test_every_function_named_exists(where: str, loaded: dict[str, Any], checkout: Path) -> None:
    root = checkout / where
    paths = [root] if root.is_file() else [path for path in root.rglob("*") if path.suffix in (".rst", ".md", ".py", ".sls")]
    assert paths
    known = {full for _kind, full, _function in functions(loaded, checkout)}
    # SLS names look alike: state.apply storage.volumes.
    sls = {"storage.volumes", "storage.controller"}
    missing = []
    for path in paths:
        text = path.read_text()
        named = set(_CALL.findall(text)) | (set(_STATE.findall(text)) if path.suffix != ".py" else set())
        missing += [f"{path.relative_to(checkout)}: {name}" for name in named - known - sls]
    assert missing == []


def test_pillar_knows_the_parameters_of_the_states(loaded: dict[str, Any]) -> None:
    from saltstorage.pillar import rendering

    for function, parameters in rendering.PARAMETERS.items():
        signature = inspect.signature(loaded["states"][f"storage_volume.{function}"]).parameters.values()
        taken = {p.name for p in signature if p.kind is not p.VAR_KEYWORD} - {"name"}
        assert set(parameters) == taken, function
    rotated = set(inspect.signature(loaded["states"]["storage_snapshot.rotated"]).parameters)
    assert {"name", "volume", *rendering.SNAPSHOTS} == rotated - {"kwargs"}
