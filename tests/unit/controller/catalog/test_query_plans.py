"""Every statement of the real calls finds its rows by an index, however large the catalog: the
plans of the statements.

SQLite's planner, without statistics, as in use: nothing runs ANALYZE.
"""

import re
import time

import pytest
import sqlalchemy

from saltstorage.controller.catalog import paging
from saltstorage.controller.catalog.listing import Filter, find
from saltstorage.controller.operations import inventory
from saltstorage.controller.service import Service
from saltstorage.model import CREATING, Connection
from tests.manyvolumes import fill

#: The tables that grow with the number of volumes or of requests.
LARGE = ("volumes", "labels", "snapshots", "connections", "fences", "requests")
CONNECTOR = {"host": "web1", "multipath": False, "ip": "127.0.0.1", "initiator": "iqn.2024-01.org.example:web1"}


class Statements:
    """The statements that reach the catalog's database."""

    def __init__(self, engine):
        self.engine = engine
        self.sent = []
        sqlalchemy.event.listen(engine, "before_cursor_execute", self._note)

    def _note(self, _connection, _cursor, statement, parameters, _context, executemany):
        if statement.startswith(("SELECT", "UPDATE", "DELETE", "INSERT")):
            self.sent.append((statement, parameters[0] if executemany else parameters))

    def plans(self):
        """Yield each statement with the lines of its plan."""
        sent, self.sent = dict(self.sent), []
        with self.engine.connect() as connection:
            for statement, parameters in sent.items():
                rows = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters).fetchall()
                yield statement, [row[3] for row in rows]

    def faults(self):
        """Return the statements that read more than they need."""
        found = []
        for statement, plan in self.plans():
            text = "\n".join(plan)
            limited = " LIMIT " in statement
            for fault in (
                # A whole table, by an index or not.
                rf"SCAN storage_({'|'.join(LARGE)})\b",
                # For each row, every row of a state.
                r"CORRELATED .*\n.*\(state=\?\)",
                # Every row of the order, sorted for each page.
                r"USE TEMP B-TREE FOR ORDER BY" if limited else "(?!)",
                # Every volume of a backend, at once.
                "(?!)" if limited else r"INDEX storage_volumes_backend \(backend=\?\)",
            ):
                if match := re.search(fault, text):
                    found.append((match[0], statement))
        return found


@pytest.fixture
def filled(opts):
    opts["storage"]["policy"] = {"web1": {"shared": ["v0000*", "x", "y*"]}, "*": {"max_volumes": 100, "max_gib": 5000}}
    service = Service(opts)
    for owner in ("web1", "web2", "shared"):
        fill(service.catalog, owner, 8, snapshots=1)
    yield service
    service.close()


@pytest.fixture
def statements(filled):
    return Statements(filled.catalog.engine)


def test_the_test_sees_statements_that_read_too_much(filled, statements):
    for calls in (
        lambda: filled.catalog.volumes(size=10),
        lambda: filled.catalog.snapshots(size=10),
        lambda: filled.catalog.volumes(backend="local", state=["creating", "error"]),
        lambda: filled.catalog.connections(read_only=True),
        lambda: list(paging.each(filled.catalog, Connection, read_only=True)),
        lambda: find(filled.catalog, Filter(host="web1", limit=3)),
    ):
        calls()
        assert len(statements.faults()) == 1


def read_one(service):
    volume = service.volume("web1", "v00001")
    assert service.catalog.volume_by_id(volume.id) == volume
    assert service.catalog.snapshot("web1", "v00001-0") in service.catalog.snapshots(volume_id=volume.id)
    assert service.catalog.connection(volume.id, "web1") in service.catalog.connections(volume_id=volume.id)
    assert service.catalog.fence(volume.id, "web1") is None
    assert service.catalog.usage("web1") == (8, 160)


def list_one_minions(service):
    assert len(find(service.catalog, Filter(owner="web1"))) == 8
    assert len(find(service.catalog, Filter(owner="web?"))) == 16
    assert len(find(service.catalog, Filter(owner="web1", limit=3, after=("web1", "v00003")))) == 3
    assert len(find(service.catalog, Filter(limit=3, after=("shared", "v00003")))) == 3
    assert len(find(service.catalog, Filter(host="web1"))) == 8
    assert len(find(service.catalog, Filter(labels={"env": "prod"}))) == 0
    assert len(service.catalog.connections(host="web1")) == len(service.catalog.connections(owner="web1")) == 8
    assert len(service.catalog.snapshots(owner="web1")) == 8


def run_without_changes(service):
    """The request of such a run of states: the inventory, in one page and in many."""
    found = service.execute("inventory", {}, "web1")
    assert (len(found["volumes"]), found["more"]) == (16, None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inventory, "PAGE", 1)
        pages = 1
        page = service.execute("inventory", {}, "web1")
        while page["more"] is not None:
            page = service.execute("inventory", {"after": page["more"]}, "web1")
            pages += 1
    assert pages == 16 + 8 + 16


def change(service):
    """The life of a volume."""
    create = {"name": "new", "size": 1, "labels": {"env": "prod"}}
    service.execute("create", create, "web1")
    service.execute("extend", {"name": "new", "size": 2}, "web1")
    service.execute("update", {"name": "new", "description": "x"}, "web1")
    service.execute("snapshot_create", {"name": "s", "volume": "new"}, "web1")
    service.execute("snapshot_delete", {"name": "s"}, "web1")
    for wanted in ({"size": 2}, None):
        service.execute("connect", {"name": "new", "connector": CONNECTOR, "create": wanted}, "web1")
    service.execute("mark_formatted", {"name": "new"}, "web1")
    service.execute("disconnect", {"name": "new"}, "web1")
    assert service.execute("delete", {"name": "new"}, "web1")["old"]["size"] == 2


def journal(service):
    """The journal's statements for each request."""
    assert service.journal.begin("r1", "web1", "d", "create", time.time()).state == "new"
    assert service.journal.begin("r1", "web1", "d", "create", time.time()).state == "running"
    service.journal.finish("r1", b"sealed")
    assert service.journal.known("r1").reply == b"sealed"
    assert service.journal.prune(time.time() + 60, time.time() - 600) == 1


def start_the_engine(service):
    volume = service.volume("web2", "v00001")
    service.catalog.update(volume, state=CREATING)
    service.recovery.run("local")
    assert service.catalog.volume("web2", "v00001") is None or service.volume("web2", "v00001").state != CREATING


@pytest.mark.parametrize("calls", [read_one, list_one_minions, run_without_changes, change, journal, start_the_engine])
def test_no_table_is_read_as_a_whole(filled, statements, calls):
    calls(filled)
    assert statements.sent
    assert statements.faults() == []
