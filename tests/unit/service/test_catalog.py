"""The catalog's database."""

import os
import sqlite3

import pytest

from saltstorage.controller.catalog import Catalog
from saltstorage.errors import FailedPreconditionError, InvalidArgumentError, UnavailableError
from saltstorage.model import Volume

LOOKUPS = (
    "storage_volumes WHERE owner='a' AND name='b'",
    "storage_volumes WHERE owner='a'",
    "storage_volumes WHERE backend='a'",
    "storage_snapshots WHERE owner='a'",
    "storage_snapshots WHERE volume_id='a'",
    "storage_connections WHERE owner='a'",
    "storage_connections WHERE volume_id='a' AND host='b'",
    "storage_connections WHERE host='b'",
    "storage_requests WHERE received < 1",
)


def volume(n, owner="web1"):
    return Volume(id=str(n), owner=owner, name=f"v{n}", backend="local", size=1)


def test_the_file_is_private(tmp_path):
    path = tmp_path / "state" / "catalog.sqlite"
    catalog = Catalog(f"sqlite:///{path}")
    catalog.add(volume(1))
    for name in os.listdir(path.parent):
        assert os.stat(path.parent / name).st_mode & 0o077 == 0, name
    assert os.stat(path.parent).st_mode & 0o077 == 0
    catalog.close()


def test_names_differ_by_case_and_by_every_byte(tmp_path):
    catalog = Catalog(f"sqlite:///{tmp_path}/c.sqlite")
    for n, name in enumerate(["data", "Data", "e\u0301", "\u00e9"]):
        catalog.add(Volume(id=str(n), owner="web1", name=name, backend="local", size=1))
    assert [catalog.volume("web1", n).id for n in ("data", "Data", "e\u0301", "\u00e9")] == ["0", "1", "2", "3"]
    catalog.close()


def test_a_catalog_of_another_version_is_refused(tmp_path):
    path = tmp_path / "c.sqlite"
    Catalog(f"sqlite:///{path}").close()
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE storage_meta SET value = '99'")
    with pytest.raises(FailedPreconditionError, match="99"):
        Catalog(f"sqlite:///{path}")


@pytest.mark.parametrize("url", ["nonsense", "sqlite://", "sqlite:///:memory:", "nodriver://user:hunter2@host/db"])
def test_a_wrong_url_is_told_without_its_password(url):
    with pytest.raises(InvalidArgumentError) as caught:
        Catalog(url)
    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_full_disk_is_told_and_nothing_is_lost(tmp_path):
    catalog = Catalog(f"sqlite:///{tmp_path}/c.sqlite")
    catalog.add(volume(1))
    with catalog.engine.connect() as connection:
        # As many pages as there are: SQLite answers as it does when the disk is full.
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
        connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")

    def fill():
        for n in range(2, 2000):
            catalog.add(Volume(id=str(n), owner="web1", name=f"v{n}" + "x" * 100, backend="local", size=1))

    with pytest.raises(UnavailableError, match="full"):
        fill()
    assert catalog.volume("web1", "v1") == volume(1)
    catalog.close()


def test_every_lookup_uses_an_index(tmp_path):
    path = tmp_path / "c.sqlite"
    catalog = Catalog(f"sqlite:///{path}")
    catalog.close()
    with sqlite3.connect(path) as connection:
        for where in LOOKUPS:
            plan = connection.execute(f"EXPLAIN QUERY PLAN SELECT * FROM {where}").fetchall()
            assert all("SEARCH" in row[3] for row in plan), (where, plan)
