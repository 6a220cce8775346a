"""Each list, name, number and example that the documentation states is the code's own."""

from __future__ import annotations

import ast
import re
import textwrap
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import docutils.core
import docutils.nodes
import pytest
import yaml

import saltstorage
from saltstorage import errors
from saltstorage.bus import envelope, replies, stacks
from saltstorage.consumer.consumer import Consumer
from saltstorage.consumer.host.config import ConsumerConfig
from saltstorage.consumer.host.records import STATES
from saltstorage.controller import arguments
from saltstorage.controller.access import locks
from saltstorage.controller.access.config import ControllerConfig
from saltstorage.controller.admin.check import KINDS
from saltstorage.controller.catalog import schema
from saltstorage.controller.service import Service
from saltstorage.link import settings as link
from saltstorage.pillar import rendering
from saltstorage.pillar.rendering import PROTOCOLS
from saltstorage.validate import MAX_TOGETHER
from tests.conftest import CHECKOUT

DOCS = CHECKOUT / "docs"
#: Pages of others' words: decisions tell of their time.
ROOT_PAGES = [CHECKOUT / name for name in ("README.rst", "CONTRIBUTING.rst", "SECURITY.rst", "CHANGELOG.rst", "pillar.example")]
PAGES = [*ROOT_PAGES, *(p for p in DOCS.rglob("*.rst") if "decisions" not in p.parts)]


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
    assert set(re.findall(r"(?:``|^ {4,}|# )make ([a-z-]+)", text, re.MULTILINE)) <= targets


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
    if "backends" in example:  # the controller's own file
        ControllerConfig.from_opts({"storage": example})
    for key, value in example.items():
        if key == "storage":
            check_storage(value)
        elif key in ("types", "policy"):
            ControllerConfig.from_opts({"storage": {"backends": {"fast": {}, "lvm": {}}, key: value}})
        elif isinstance(value, dict):
            for function, parameters in value.items():
                check_state(function, parameters)


def check_storage(storage: dict[str, Any]) -> None:
    if {"volumes", "passphrases", "controller", "lookup"} & set(storage) or "protocols" in storage.get("consumer", {}):
        states = rendering.volume_states(storage)
        assert [body for body in states.values() if "storage_pillar.invalid" in body] == []
        assert rendering.consumer_problem(storage) == ""
        assert "controller" not in storage or rendering.controller_problem(storage) == ""
    else:
        # Salt's side keeps the keys that say where things are.
        ControllerConfig.from_opts({"storage": {"backends": {}, **link.for_process({}, storage)["storage"]}})
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


def squeezed(name):
    """A page's text, each run of blanks as one."""
    return " ".join((CHECKOUT / name).read_text().split())


def tables(name):
    """The tables of a page, each a list of rows, each a list of cells as docutils nodes."""
    # Sphinx's own roles and directives are unknown to docutils, and do not matter here.
    settings = {"report_level": 5, "halt_level": 5, "file_insertion_enabled": False}
    page = docutils.core.publish_doctree((DOCS / name).read_text(), settings_overrides=settings)
    for table in page.findall(docutils.nodes.table):
        yield [list(row.children) for body in table.findall(docutils.nodes.tbody) for row in body.findall(docutils.nodes.row)]


def named(cell):
    """The first literal of each item of a cell's list."""
    return [next(iter(item.findall(docutils.nodes.literal))).astext() for item in cell.findall(docutils.nodes.list_item)]


@pytest.fixture
def service(tmp_path):
    service = Service({"id": "master", "storage": {"state_dir": str(tmp_path / "state"), "backends": {}}})
    yield service
    service.close()


def test_the_table_of_operations_is_the_services_own(service):
    listed = {row[0].astext(): named(row[1]) for row in next(tables("internals/operations.rst"))}
    takes = {name: {*arguments.names(operation)} - {"owner"} for name, operation in service.operations.items()}
    assert list(listed) == list(takes), "docs/internals/operations.rst lists other operations than Service.operations"
    for name, expected in takes.items():
        assert sorted(listed[name]) == sorted(expected), f"docs/internals/operations.rst: {name}"


def test_every_operation_on_a_volume_takes_an_owner(service):
    without = {name for name, operation in service.operations.items() if "owner" not in arguments.names(operation)}
    assert without == {"inventory", "together"}


def test_the_table_of_the_consumers_methods_names_methods():
    for row in list(tables("internals/operations.rst"))[1]:
        for method in re.findall(r"(\w+)\(", row[0].astext()):
            assert callable(getattr(Consumer, method)), method


def test_every_driver_of_the_project_is_named():
    own = set()
    for path in (CHECKOUT / "_utils/saltstorage/drivers").glob("*.py"):
        for name in re.findall(r"^@interface\.volumedriver\nclass (\w+)", path.read_text(), re.MULTILINE):
            own.add(f"saltstorage.drivers.{path.stem}.{name}")
    named = {name for path in PAGES for name in re.findall(r"\b(saltstorage\.drivers\.\w+\.\w+)", path.read_text())}
    assert named == own


def test_one_version_everywhere():
    formula = dict(line.split(": ", 1) for line in (CHECKOUT / "FORMULA").read_text().splitlines())
    assert formula["version"] == saltstorage.__version__
    project = (CHECKOUT / "pyproject.toml").read_text()
    assert re.search(r"^version = \{ attr = \"_utils\.saltstorage\.__version__\" \}", project, re.MULTILINE)
    assert re.search(rf"^{re.escape(saltstorage.__version__)}, ", (CHECKOUT / "CHANGELOG.rst").read_text(), re.MULTILINE)


def test_the_versions_of_formats():
    page = squeezed("docs/versions.rst")
    assert f"(``v`` in a request, today {envelope.VERSION})" in page
    assert f"(``schema`` in the table ``{schema.meta.name}``, today {schema.SCHEMA_VERSION})" in page


def test_the_releases_of_salt_that_are_tested():
    rows = {row[0].astext() for table in tables("versions.rst") for row in table if row[0].astext().startswith("300")}
    locked = [(CHECKOUT / "requirements" / name).read_text() for name in ("dev.txt", "salt3006.txt")]
    assert rows == {re.search(r"^salt==(\S+)", text, re.MULTILINE).group(1) for text in locked}


def test_the_numbers_of_concurrency():
    page = squeezed("docs/concurrency.rst")
    assert f"``storage-worker-N`` {ControllerConfig.workers} " in page
    assert f"``storage-reply-N`` {replies.THREADS} " in page
    assert f"spread over {locks.BUCKETS:,} locks" in page
    assert f"({ControllerConfig.lock_timeout} s on the controller, {ConsumerConfig.lock_timeout:g} s on the host)" in page
    assert f"at most {MAX_TOGETHER} of" in squeezed("docs/internals/operations.rst")


def test_the_states_of_a_record():
    table = next(table for table in tables("debugging.rst") if table[0][0].astext() == STATES[0])
    assert tuple(row[0].astext() for row in table) == STATES


def test_the_statements_on_the_catalog_run(service, tmp_path):
    """The page on debugging shows statements that the catalog understands."""
    import sqlalchemy

    block = re.search(r"code-block:: sql\n\n((?:    .*\n|\n)+)", (DOCS / "debugging.rst").read_text()).group(1)
    statements = [line.strip() for line in block.splitlines() if line.strip().startswith("SELECT")]
    assert len(statements) == 6
    with service.catalog.engine.connect() as connection:
        for statement in statements:
            connection.execute(sqlalchemy.text(statement)).all()


def test_the_file_of_the_engines_stacks():
    assert f"/var/log/salt/{stacks.FILE}" in squeezed("docs/debugging.rst")
