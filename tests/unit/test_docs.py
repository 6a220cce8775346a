"""Lists and names in the documentation are those of the code."""

from __future__ import annotations

import ast
import re
import textwrap
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml

from saltstorage import errors
from saltstorage.consumer.host.config import ConsumerConfig
from saltstorage.controller.access.config import ControllerConfig
from saltstorage.controller.admin.check import KINDS
from saltstorage.pillar import rendering
from saltstorage.pillar.rendering import PROTOCOLS
from tests.conftest import CHECKOUT

DOCS = CHECKOUT / "docs"
#: Pages of others' words: decisions tell of their time.
PAGES = [CHECKOUT / "README.rst", CHECKOUT / "pillar.example", *(p for p in DOCS.rglob("*.rst") if "decisions" not in p.parts)]


def test_the_page_on_repair_lists_every_kind_of_finding() -> None:
    page = (DOCS / "how-to/repair.rst").read_text(encoding="utf-8")
    assert sorted(re.findall(r"^``(\w+)``  ", page, re.MULTILINE)) == sorted(KINDS)


@pytest.mark.parametrize("path", [*(DOCS / "how-to").glob("*.rst"), DOCS / "semantics.toml"], ids=lambda path: path.name)
def test_every_code_of_an_error_exists(path: Path) -> None:
    named = set(re.findall(r"(?<![\w./-])[A-Z]{2,}_[A-Z]{2,}(?:_[A-Z]+)*(?![\w./-])", path.read_text(encoding="utf-8")))
    assert named <= set(errors.BY_CODE)


def test_the_page_on_sls_lists_every_protocol() -> None:
    page = (DOCS / "reference/sls.rst").read_text(encoding="utf-8")
    [listed] = re.findall(r"The protocols are (.*?)\.", page, re.DOTALL)
    assert re.findall(r"``(\w+)``", listed) == list(PROTOCOLS)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(CHECKOUT)))
def test_every_dotted_path_leads_to_something(path: Path) -> None:
    """Modules of the project, and drivers of Cinder: readers copy these paths."""
    text = path.read_text(encoding="utf-8")
    named = set(re.findall(r"(?<![\w./-])(?:saltstorage|cinder\.volume)(?:\.\w+)+(?![\w*])", text))
    assert sorted(name for name in named if not exists(name)) == []


def exists(name: str) -> bool:
    """Return whether a dotted path names a module, or a name in one; nothing is imported, as
    Cinder binds its process.
    """
    first, *parts = name.split(".")
    place = Path(str(find_spec(first).origin)).parent  # type: ignore[union-attr]
    while parts and (place / parts[0]).is_dir():
        place /= parts.pop(0)
    file = place / f"{parts.pop(0)}.py" if parts and (place / f"{parts[0]}.py").is_file() else place / "__init__.py"
    # One of a class is looked up no further than the class.
    return not parts or bool(re.search(rf"^(?:class |def )?{parts[0]}\b|^from .* import .*\b{parts[0]}\b", file.read_text(), re.MULTILINE))


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(CHECKOUT)))
def test_files_and_targets_named_exist(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    files = set(re.findall(r"(?:``|<)((?:_\w+|demo|docs|requirements|storage|tests|tools)/[\w./-]+\.\w+)(?:``|>)", text))
    assert sorted(name for name in files if not (CHECKOUT / name).exists()) == []
    targets = set(re.findall(r"^([a-z-]+) *:", (CHECKOUT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"(?:``|^ +|# )make ([a-z-]+)", text, re.MULTILINE)) <= targets


def examples() -> list[Any]:
    """Return the YAML examples of the pages, each with the page's name."""
    found = []
    for path in PAGES:
        page = path.read_text(encoding="utf-8")
        for number, block in enumerate(re.findall(r"^ *\.\. code-block:: yaml\n((?:\n| .*\n)+)", page, re.MULTILINE)):
            name = f"{path.relative_to(CHECKOUT)}-{number}"
            # A block ends where the indentation of its first line does.
            lines = block.strip("\n").splitlines()
            indent = re.match(" *", lines[0])[0]  # type: ignore[index]
            end = next((n for n, line in enumerate(lines) if line and not line.startswith(indent)), len(lines))
            found.append(pytest.param(textwrap.dedent("\n".join(lines[:end])), id=name))
    return found


@pytest.mark.parametrize("text", examples())
def test_every_example_is_accepted(text: str) -> None:
    """Pillar, options of master and minion, and states: as the code checks them."""
    example = yaml.safe_load(text)
    for key, value in example.items():
        if key == "storage":
            check_storage(value)
        elif key in ("types", "policy"):
            ControllerConfig.from_opts({"storage": {"backends": {"fast": {}, "lvm": {}}, key: value}})
        elif isinstance(value, dict):
            for function, parameters in value.items():
                check_state(function, parameters)


def check_storage(storage: dict[str, Any]) -> None:
    if {"volumes", "passphrases", "controller"} & set(storage) or "protocols" in storage.get("consumer", {}):
        states = rendering.volume_states(storage)
        assert [body for body in states.values() if "storage_pillar.invalid" in body] == []
        assert rendering.consumer_problem(storage) == ""
        assert "controller" not in storage or rendering.controller_problem(storage) == ""
    else:
        ControllerConfig.from_opts({"storage": {"backends": {}, **storage}})
        ConsumerConfig.from_opts({"storage": storage})


def check_state(function: str, parameters: Any) -> None:
    module, _, name = function.partition(".")
    path = CHECKOUT / "_states" / f"{module}.py"
    if not path.is_file():
        return
    defined = {node.name: node.args.args for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef)}
    known = {argument.arg for argument in defined[name]}
    named = {key for parameter in parameters for key in parameter}
    assert named <= known | {"require"}, function
