"""A database that several controllers share, here PostgreSQL: its tables are made by one process
at a time.
"""

from __future__ import annotations

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

LIFE = """
import json, sys
from saltstorage.controller.operations.core import Caller
from saltstorage.controller.service import Service

opts, name = json.loads(sys.argv[1]), sys.argv[2]
service = Service(opts)
service.call("create", {"owner": "web1", "name": name, "size": 1}, Caller())
service.close()
"""


@pytest.fixture
def url(postgresql):
    return postgresql.database()


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
    with lock_tables(url, "catalog"):
        with engine.connect() as connection:
            ended = "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'"
            assert connection.exec_driver_sql(ended).scalar() is True
        with lock_tables(url, "catalog"):
            pass
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
