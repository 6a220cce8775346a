"""The documentation and the code: each list and number that the pages state is the code's own."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import re
from pathlib import Path

import docutils.core
import docutils.nodes
import pytest

import saltstorage
from saltstorage.bus import envelope
from saltstorage.consumer.attach import Consumer
from saltstorage.consumer.host.config import ConsumerConfig
from saltstorage.consumer.host.records import STATES
from saltstorage.controller.access import locks
from saltstorage.controller.access.config import ControllerConfig
from saltstorage.controller.catalog import schema
from saltstorage.controller.service import Service
from saltstorage.pillar.rendering import PROTOCOLS
from saltstorage.validate import MAX_TOGETHER
from tests.conftest import CHECKOUT

DOCS = CHECKOUT / "docs"
#: Everything that a user reads, except for what is generated from tests and runs.
TEXTS = [
    CHECKOUT / "README.rst",
    CHECKOUT / "CONTRIBUTING.rst",
    CHECKOUT / "CHANGELOG.rst",
    CHECKOUT / "SECURITY.rst",
    CHECKOUT / "pillar.example",
    *sorted(path for path in DOCS.rglob("*.rst") if "_build" not in path.parts and path.name != "verified.rst"),
]


def text(name):
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


def classes(module):
    """The names of a source's classes; none when there is no such source."""
    nodes = ast.walk(ast.parse(module.read_text())) if module.is_file() else ()
    return {node.name for node in nodes if isinstance(node, ast.ClassDef)}


def mentioned(pattern):
    """The matches of a pattern in the texts, each with the files that have it."""
    found = {}
    for path in TEXTS:
        for match in re.findall(pattern, path.read_text()):
            found.setdefault(match, []).append(str(path.relative_to(CHECKOUT)))
    return found


@pytest.fixture
def service(tmp_path):
    service = Service({"id": "master", "storage": {"state_dir": str(tmp_path / "state"), "backends": {}}})
    yield service
    service.close()


def test_the_table_of_operations_is_the_services_own(service):
    listed = {row[0].astext(): named(row[1]) for row in next(tables("internals/operations.rst"))}
    takes = {
        name: [p for p in inspect.signature(operation).parameters if p not in ("caller", "owner")]
        for name, operation in service.operations.items()
    }
    assert list(listed) == list(takes), "docs/internals/operations.rst lists other operations than Service.operations"
    for name, parameters in takes.items():
        assert sorted(listed[name]) == sorted(parameters), f"docs/internals/operations.rst: {name}"


def test_every_operation_on_a_volume_takes_an_owner(service):
    without = {name for name, operation in service.operations.items() if "owner" not in inspect.signature(operation).parameters}
    assert without == {"inventory", "together"}


def test_the_table_of_the_consumers_methods_names_methods():
    for row in list(tables("internals/operations.rst"))[1]:
        for method in re.findall(r"(\w+)\(", row[0].astext()):
            assert callable(getattr(Consumer, method)), method


def test_the_protocols_that_the_sls_lists():
    listed = re.search(r"The protocols are (.*?)\.", text("docs/reference/sls.rst")).group(1)
    assert sorted(re.findall(r"``(\w+)``", listed)) == sorted(PROTOCOLS)


def test_every_driver_that_is_named_exists():
    cinder = Path(importlib.util.find_spec("cinder").submodule_search_locations[0])
    found = mentioned(r"\b((?:saltstorage\.drivers|cinder\.volume\.drivers)(?:\.\w+)+\.[A-Z]\w+)")
    assert found
    for path, files in found.items():
        package, *parts, name = path.split(".")
        module = (cinder if package == "cinder" else CHECKOUT / "_utils/saltstorage").joinpath(*parts).with_suffix(".py")
        assert name in classes(module), f"{path}, in {', '.join(files)}"


def test_every_driver_of_the_project_is_named():
    own = set()
    for path in (CHECKOUT / "_utils/saltstorage/drivers").glob("*.py"):
        for name in re.findall(r"^@interface\.volumedriver\nclass (\w+)", path.read_text(), re.MULTILINE):
            own.add(f"saltstorage.drivers.{path.stem}.{name}")
    assert own == set(mentioned(r"\b(saltstorage\.drivers\.\w+\.\w+)"))


def test_every_module_of_the_package_that_is_named_exists():
    root = CHECKOUT / "_utils/saltstorage"
    for path, files in mentioned(r"\bsaltstorage((?:\.[a-z]\w*)+)").items():
        parts = path.strip(".").split(".")
        # The last part may be a function or a datum of the module before it.
        places = [root.joinpath(*parts), root.joinpath(*parts).with_suffix(".py"), root.joinpath(*parts[:-1]).with_suffix(".py")]
        assert any(place.exists() for place in places), f"saltstorage{path}, in {', '.join(files)}"


def test_every_source_that_is_named_by_its_path_exists():
    for path, files in mentioned(r"``((?:[a-z_]+/)+[a-z_]+\.(?:py|toml|sh|rst|sls|yaml))``").items():
        if files != ["CHANGELOG.rst"]:
            places = [CHECKOUT / path, CHECKOUT / "_utils/saltstorage" / path]
            assert any(place.exists() for place in places), f"{path}, in {', '.join(files)}"


def test_one_version_everywhere():
    formula = dict(line.split(": ", 1) for line in (CHECKOUT / "FORMULA").read_text().splitlines())
    assert formula["version"] == saltstorage.__version__
    assert re.search(r"^version = \{ attr = \"saltstorage\.__version__\" \}", (CHECKOUT / "pyproject.toml").read_text(), re.MULTILINE)
    assert re.search(rf"^{re.escape(saltstorage.__version__)}, ", (CHECKOUT / "CHANGELOG.rst").read_text(), re.MULTILINE)


def test_the_versions_of_formats():
    page = text("docs/versions.rst")
    assert f"(``v`` in a request, today {envelope.VERSION})" in page
    assert f"(``schema`` in the table ``{schema.meta.name}``, today {schema.SCHEMA_VERSION})" in page


def test_the_numbers_of_concurrency():
    page = text("docs/concurrency.rst")
    assert f"``storage-worker-N`` {ControllerConfig.workers} " in page
    assert f"spread over {locks.BUCKETS:,} locks" in page
    assert f"({ControllerConfig.lock_timeout} s on the controller, {ConsumerConfig.lock_timeout:g} s on the host)" in page
    assert f"at most {MAX_TOGETHER} of" in text("docs/internals/operations.rst")


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
