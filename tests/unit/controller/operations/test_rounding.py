"""Arrays that deliver more than was asked for, or less: real catalog and metadata."""

from __future__ import annotations

import sqlite3

import pytest

from saltstorage import errors
from saltstorage.controller.service import Service

HERE = "tests.unit.controller.operations.pool_driver"


@pytest.fixture
def make(opts):
    made = []

    def make(driver: str) -> Service:
        opts["storage"]["backends"]["local"]["volume_driver"] = f"{HERE}.{driver}"
        made.append(Service(opts))
        return made[-1]

    yield make
    for service in made:
        service.close()


def create(service, size):
    return service.execute("create", {"name": "data", "size": size}, "web1")


def test_p4_the_second_apply_changes_nothing(make):
    service = make("SteppingDriver")
    first = create(service, 10)["volume"]
    assert (first["size"], first["requested"]) == (16, 10)
    for size in (10, 12, 16):
        again = create(service, size)
        assert again["volume"] == again["old"] == first
    with pytest.raises(errors.OutOfRangeError, match="has 10 GiB and cannot shrink to 9 GiB"):
        create(service, 9)
    grown = create(service, 24)["volume"]
    assert (grown["size"], grown["requested"]) == (24, None)
    with pytest.raises(errors.OutOfRangeError, match="has 24 GiB"):
        create(service, 10)


def test_p2_less_than_asked_is_an_error_at_once(make, files):
    service = make("ShortDriver")
    with pytest.raises(errors.InternalError, match="backend 'local' delivered 9 GiB and not the 10 GiB that were asked for"):
        create(service, 10)
    assert service.catalog.volumes() == []
    assert files() == []


def test_a_catalog_from_before_keeps_its_volumes(make, opts, tmp_path):
    service = make("SteppingDriver")
    before = create(service, 16)["volume"]
    service.close()
    with sqlite3.connect(tmp_path / "state" / "catalog.sqlite") as database:
        database.execute("ALTER TABLE storage_volumes DROP COLUMN requested")
        database.execute("DROP TABLE storage_reservations")
    service = make("SteppingDriver")
    assert service.catalog.volume("web1", "data").to_wire() == before
    assert create(service, 24)["volume"]["size"] == 24
