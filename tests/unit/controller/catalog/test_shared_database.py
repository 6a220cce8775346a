"""A database that several controllers share, PostgreSQL or MariaDB: one process at a time makes
tables.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest
import sqlalchemy

from saltstorage.controller.catalog import database as databases
from saltstorage.controller.catalog.database import lock_tables
from saltstorage.errors import UnavailableError

pytestmark = pytest.mark.slow

LIFE = """
import json, sys
from saltstorage.controller.operations.core import Caller
from saltstorage.controller.service import Service

opts, name = json.loads(sys.argv[1]), sys.argv[2]
service = Service(opts)
volume = {"owner": "web1", "name": name}
service.call("create", {**volume, "size": 1}, Caller())
service.call("snapshot_create", {"owner": "web1", "name": f"{name}-first", "volume": name}, Caller())
service.call("extend", {**volume, "size": 2}, Caller())
service.call("snapshot_delete", {"owner": "web1", "name": f"{name}-first"}, Caller())
service.close()
"""


#: A query for the connection that holds the lock, and the statement that ends it.
END = {
    "postgresql": ("SELECT pid FROM pg_locks WHERE locktype = 'advisory'", "SELECT pg_terminate_backend({})"),
    "mysql": ("SELECT id FROM information_schema.processlist WHERE db = DATABASE() AND id <> CONNECTION_ID()", "KILL {}"),
}


@pytest.fixture(params=["postgresql", "mysql"])
def url(request):
    return request.getfixturevalue(request.param).database()


def test_tables_are_made_by_one_process_at_a_time(url):
    """The second waits for the first; a process that makes other tables, or works on another
    database, does not.
    """
    entered = Event()

    def second():
        with lock_tables(url, "catalog"):
            entered.set()

    with ThreadPoolExecutor(1) as pool:
        with lock_tables(url, "catalog"), lock_tables(url, "metadata"):
            waiting = pool.submit(second)
            assert not entered.wait(0.5)
        waiting.result(60)
    assert entered.is_set()


def test_a_wait_that_is_too_long_ends_with_an_error(url, monkeypatch):
    monkeypatch.setattr(databases, "LOCK_TIMEOUT", 0)
    with (
        lock_tables(url, "catalog"),
        pytest.raises(UnavailableError, match="another process has been making tables of the catalog"),
        lock_tables(url, "catalog"),
    ):
        pass


def test_the_lock_ends_with_its_holder(url):
    """As when a controller is killed while it makes tables."""
    engine = sqlalchemy.create_engine(url, isolation_level="AUTOCOMMIT")
    taken = False
    # The first holder, unlike a killed controller, is still here and may notice the end.
    with contextlib.suppress(sqlalchemy.exc.OperationalError), lock_tables(url, "catalog"):
        with engine.connect() as connection:
            query, end = END[engine.dialect.name]
            connection.exec_driver_sql(end.format(connection.exec_driver_sql(query).scalar_one()))
        with lock_tables(url, "catalog"):
            taken = True
    assert taken
    engine.dispose()


def test_controllers_that_start_with_a_new_database_at_once(url, tmp_path):
    """Each makes the catalog's tables, or finds them, and those of cinderlib's metadata, which
    Cinder's migrations make.
    """

    def live(name):
        backend = {"volume_driver": "saltstorage.drivers.file.FileDriver", "file_driver_path": str(tmp_path / name)}
        opts = {"id": name, "storage": {"state_dir": str(tmp_path / f"state-{name}"), "database": url, "backends": {"local": backend}}}
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        return subprocess.run(
            [sys.executable, "-c", LIFE, json.dumps(opts), name], capture_output=True, text=True, env=environment, check=False
        )

    names = ["a", "b", "c"]
    with ThreadPoolExecutor(len(names)) as pool:
        for ended in pool.map(live, names):
            assert ended.returncode == 0, ended.stderr[-2000:]
    engine = sqlalchemy.create_engine(url)
    with engine.connect() as connection:
        for table in ("storage_volumes", "volumes"):
            assert connection.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar() == len(names)
    engine.dispose()
