"""A controller over the file driver: the real Cinder driver, catalog and locks, in the test's own
directories.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from saltstorage.controller.operations.core import Caller
from saltstorage.controller.service import Service
from tests import mariadb, needs, postgres


def pytest_generate_tests(metafunc):
    """Run the tests of a module with ``DATABASES`` on each of these, where they use the catalog; a
    test may name its own.
    """
    databases = getattr(metafunc.module, "DATABASES", ())
    own = any(marker.args[0] == "database" for marker in metafunc.definition.iter_markers("parametrize"))
    if databases and "database" in metafunc.fixturenames and not own:
        metafunc.parametrize("database", databases, indirect=True)


@pytest.fixture(scope="session")
def postgresql():
    """A PostgreSQL server."""
    needs.programs("initdb", "postgres", "pg_isready", path=postgres.SEARCH)
    with tempfile.TemporaryDirectory(prefix="st-") as folder, postgres.running(Path(folder)) as server:
        yield server


@pytest.fixture(scope="session")
def mysql():
    """A MariaDB server."""
    needs.programs(*mariadb.PROGRAMS)
    with tempfile.TemporaryDirectory(prefix="st-") as folder, mariadb.running(Path(folder)) as server:
        yield server


@pytest.fixture
def database(request, tmp_path):
    """URL of the catalog: the default file, or an empty database; see ``DATABASES``."""
    kind = getattr(request, "param", "sqlite")
    if kind != "sqlite":
        return request.getfixturevalue(kind).database()
    return f"sqlite:///{tmp_path}/state/catalog.sqlite"


@pytest.fixture
def opts(tmp_path, metadata_dir, database):
    """Salt's options of a controller with one backend, ``local``."""
    return {
        "id": "web1",
        "storage": {
            "state_dir": str(tmp_path / "state"),
            # A file of the default moves with the state_dir, where a test changes that.
            **({} if database.startswith("sqlite:") else {"database": database}),
            "metadata_database": f"sqlite:///{metadata_dir}/cinderlib.sqlite",
            "lock_timeout": 1,
            "backends": {
                "local": {
                    "volume_driver": "saltstorage.drivers.file.FileDriver",
                    "file_driver_path": str(tmp_path / "volumes"),
                }
            },
        },
    }


@pytest.fixture
def service(opts):
    """The controller, not started: nothing runs in the background."""
    service = Service(opts)
    yield service
    service.close()


@pytest.fixture
def admin():
    return Caller()


@pytest.fixture
def files(tmp_path):
    """A function that lists the volumes and snapshots in the backend's directory."""

    def listed():
        try:
            return sorted(n for n in os.listdir(tmp_path / "volumes") if n.startswith(("volume-", "snapshot-")))
        except FileNotFoundError:
            return []

    return listed


@pytest.fixture
def two(opts, tmp_path):
    """Salt's options of a controller with two backends, ``local`` (the default) and ``other``."""
    opts["storage"]["backends"]["other"] = {
        "volume_driver": "saltstorage.drivers.file.FileDriver",
        "file_driver_path": str(tmp_path / "others"),
    }
    opts["storage"]["default_backend"] = "local"
    return opts


@pytest.fixture
def pair(two):
    """The controller of the options ``two``."""
    service = Service(two)
    yield service
    service.close()
