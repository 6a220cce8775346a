"""Finding volumes: filters, pages, and the indexes that they use."""

import pytest
import sqlalchemy

from saltstorage.controller.catalog import listing, paging, schema
from saltstorage.controller.catalog.listing import Filter, find
from saltstorage.errors import InvalidArgumentError
from saltstorage.model import Connection, Volume

DATABASES = ("sqlite", "postgresql", "mysql")


@pytest.fixture
def catalog(service):
    """A catalog with three volumes each of db1 to db12 and of web1."""
    number = 0
    for owner in [*(f"db{n}" for n in range(1, 13)), "web1"]:
        for name in ("a", "b", "c"):
            number += 1
            labels = {"env": "prod" if name == "a" else "test", "n": str(number)}
            service.catalog.add(
                Volume(id=f"v{number}", owner=owner, name=name, backend="local", size=1, labels=labels if name != "c" else {}, type=None)
            )
    for host in ("web1", "web2"):
        service.catalog.add(Connection(id=f"c-{host}", volume_id="v4", owner="db2", volume="a", host=host, size=1))
    return service.catalog


def names(found):
    return [f"{volume.owner}/{volume.name}" for volume, _ in found]


def test_a_filter_finds_exactly_its_volumes(catalog):
    assert names(find(catalog, Filter(owner="db2"))) == ["db2/a", "db2/b", "db2/c"]
    assert names(find(catalog, Filter(owner="db1?", labels={"env": "prod"}))) == ["db10/a", "db11/a", "db12/a"]
    assert names(find(catalog, Filter(owner="*1", labels={"env": "test"}))) == ["db1/b", "db11/b", "web1/b"]
    assert len(find(catalog, Filter(labels={"env": None}))) == 26
    assert names(find(catalog, Filter(labels={"env": "prod", "n": "4"}))) == ["db2/a"]
    assert find(catalog, Filter(host="web2")) == [(catalog.volume("db2", "a"), ["web1", "web2"])]
    assert len(find(catalog, Filter(backend="local", state="available"))) == 39
    assert find(catalog, Filter(type="gold")) == []


def test_p15_the_list_agrees_at_once(service):
    for name in ("data", "logs"):
        service.execute("create", {"name": name, "size": 1}, "web1")
    assert names(find(service.catalog, Filter(owner="web1"))) == ["web1/data", "web1/logs"]
    service.execute("extend", {"name": "data", "size": 2}, "web1")
    assert [volume.size for volume, _ in find(service.catalog, Filter(owner="web1"))] == [2, 1]
    service.execute("delete", {"name": "data"}, "web1")
    assert names(find(service.catalog, Filter(owner="web1"))) == ["web1/logs"]


def test_p16_no_match_is_an_empty_list(catalog):
    for wanted in (Filter(owner="no"), Filter(owner="no*"), Filter(backend="no"), Filter(labels={"env": "no"}), Filter(host="no")):
        assert find(catalog, wanted) == []


@pytest.mark.parametrize("owner", [None, "*", "db*", "[dw]*"])
@pytest.mark.parametrize("limit", [1, 4, 39, 100])
@pytest.mark.parametrize("chunk", [2, 500])
def test_pages_are_the_whole_list(catalog, monkeypatch, owner, limit, chunk):
    monkeypatch.setattr(paging, "CHUNK", chunk)
    whole = names(find(catalog, Filter(owner=owner)))
    seen = []
    while page := names(find(catalog, Filter.from_user(owner=owner, limit=limit, after=seen[-1] if seen else None))):
        assert len(page) <= limit
        seen += page
    assert seen == whole == sorted(whole)


def test_after_a_volume_that_is_gone(catalog):
    catalog.remove(catalog.volume("db1", "b"))
    assert names(find(catalog, Filter(after=("db1", "b"), limit=2))) == ["db1/c", "db10/a"]


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"limit": 0}, "limit"),
        ({"limit": "10"}, "limit"),
        ({"after": "db1"}, "after"),
        ({"after": 7}, "after"),
        ({"labels": 7}, "labels"),
        ({"labels": "=x"}, "labels"),
        ({"labels": {"env": 7}}, "labels:env"),
        ({"owner": 7}, "owner"),
        ({"backend": ""}, "backend"),
        ({"state": "avialable"}, "state"),
    ],
)
def test_a_wrong_filter_is_refused(wrong, field):
    with pytest.raises(InvalidArgumentError) as caught:
        Filter.from_user(**wrong)
    assert caught.value.field == field


def test_labels_as_written_on_the_command_line():
    assert Filter.from_user(labels="env=prod, tier ,url=a=b").labels == {"env": "prod", "tier": None, "url": "a=b"}


@pytest.mark.parametrize(
    ("wanted", "indexes"),
    [
        (Filter(owner="db1"), ["storage_volumes (owner=?)"]),
        (Filter(limit=10, after=("db5", "a")), ["storage_volumes (owner>?)"]),
        (Filter(labels={"env": "prod"}), ["storage_labels_value"]),
        (Filter(host="web1"), ["storage_connections_host"]),
        (Filter(state="error"), ["storage_volumes_state"]),
    ],
)
# other databases choose by how much they have to search
@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_the_indexes_are_used(catalog, wanted, indexes):
    query = listing.build_query(wanted, None if wanted.owner is None else [wanted.owner])
    text = str(query.compile(catalog.engine, compile_kwargs={"literal_binds": True}))
    with catalog.reading() as connection:
        plan = "\n".join(row[3] for row in connection.execute(sqlalchemy.text("EXPLAIN QUERY PLAN " + text)))
    for index in indexes:
        table, _, what = index.partition(" ")
        assert table in plan
        assert what in plan
    assert not [line for line in plan.splitlines() if line == "SCAN storage_volumes"], plan
    assert schema.volumes.name in text
