"""The catalog's database."""

import os
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
import sqlalchemy
from sqlalchemy.dialects import mysql

from saltstorage.controller.catalog import schema
from saltstorage.controller.catalog.catalog import Catalog
from saltstorage.errors import AlreadyExistsError, FailedPreconditionError, InternalError, InvalidArgumentError, UnavailableError
from saltstorage.model import Volume

DATABASES = ("sqlite", "postgresql", "mysql")
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


def test_names_differ_by_case_and_by_every_byte(database):
    catalog = Catalog(database)
    for n, name in enumerate(names := ["data", "Data", "e\u0301", "\u00e9", "data "]):
        catalog.add(Volume(id=str(n), owner="web1", name=name, backend="local", size=1))
    assert [catalog.volume("web1", n).id for n in names] == ["0", "1", "2", "3", "4"]
    assert [v.id for v in catalog.volumes()] == ["1", "0", "4", "2", "3"], "ordered by bytes, whatever the database's language"
    catalog.close()


def test_mysql_gets_names_as_bytes():
    """MySQL's collations for UTF-8 that every version has ignore blanks at the end."""
    dialect = mysql.dialect()
    for column in schema.volumes.c.owner, schema.volumes.c.name, schema.labels.c.value:
        assert column.type.compile(dialect=dialect) == "VARBINARY(255)"
        kind = column.type.dialect_impl(dialect)
        stored = kind.process_bind_param("größe ", dialect)
        assert stored == "größe ".encode()
        assert kind.process_result_value(stored, dialect) == "größe "


def test_a_record_is_kept_and_removed(database):
    catalog = Catalog(database)
    found = Volume(id="1", owner="web1", name="🐘", backend="local", size=16 * 2**20, labels={"ü": "'"}, source={"id": "x"}, retain=True)
    catalog.add(found)
    catalog.add(volume(2))
    catalog.close()
    catalog = Catalog(database)
    assert catalog.volume("web1", "🐘") == found
    assert (catalog.usage("web1"), catalog.allocated("local")) == ((2, 16 * 2**20 + 1), 16 * 2**20 + 1)
    assert catalog.update(found, error="x", labels={}) == catalog.volume_by_id("1")
    with pytest.raises(InternalError, match="already"):
        catalog.add(Volume(id="3", owner="web1", name="🐘", backend="local", size=1))
    with pytest.raises(AlreadyExistsError):
        catalog.apply(remove=[volume(2)], add=[Volume(id="3", owner="web1", name="🐘", backend="local", size=1)])
    assert catalog.volume_by_id("2") is not None, "all or none"
    catalog.remove(found)
    assert [v.id for v in catalog.volumes()] == ["2"]
    catalog.set_backend_state("local", "up", capabilities=["extend"])
    catalog.set_backend_state("local", "down", error="no")
    assert (catalog.backend_states()["local"]["state"], catalog.backend_states()["local"]["capabilities"]) == ("down", [])
    catalog.close()


def test_several_processes_make_the_tables_once(database):
    """As when the engine and a runner start with a new database."""
    start = Barrier(4)

    def open_it(number):
        start.wait(60)
        catalog = Catalog(database)
        catalog.add(volume(number))
        return catalog

    with ThreadPoolExecutor(4) as pool:
        catalogs = list(pool.map(open_it, range(4)))
    assert [len(catalog.volumes()) for catalog in catalogs] == [4] * 4
    for catalog in catalogs:
        catalog.close()


def test_a_user_who_may_not_make_tables_reads_so(postgresql):
    """As every user but the owner of a database since PostgreSQL 15."""
    url = postgresql.database()
    engine = sqlalchemy.create_engine(url)
    with engine.begin() as connection:
        connection.exec_driver_sql("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
        connection.exec_driver_sql("CREATE ROLE guest LOGIN")
    engine.dispose()
    with pytest.raises(FailedPreconditionError, match="tables cannot be made or read; .*permission denied"):
        Catalog(url.replace("test@", "guest@"))


def test_a_catalog_of_another_version_is_refused(database):
    catalog = Catalog(database)
    with catalog.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE storage_meta SET value = '99'")
    catalog.close()
    with pytest.raises(FailedPreconditionError, match="99"):
        Catalog(database)


@pytest.mark.parametrize("url", ["nonsense", "sqlite://", "sqlite:///:memory:", "nodriver://user:hunter2@host/db"])
def test_a_wrong_url_is_reported_without_its_password(url):
    with pytest.raises(InvalidArgumentError) as caught:
        Catalog(url)
    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_full_disk_is_reported_and_nothing_is_lost(tmp_path):
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
