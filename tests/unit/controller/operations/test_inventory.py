"""The inventory in pages: the bus can carry each answer, however many volumes a minion owns."""

import json

import pytest

from saltstorage.bus.envelope import MAX_REPLY
from saltstorage.controller.catalog import paging
from saltstorage.controller.operations import inventory
from saltstorage.controller.service import Service
from saltstorage.errors import InvalidArgumentError
from saltstorage.model import Fence
from tests.manyvolumes import fill

KINDS = ("volumes", "snapshots", "connections", "fenced")


def ask(service, caller="web1", after=None):
    """One page, as the bus delivers it."""
    return json.loads(json.dumps(service.execute("inventory", {} if after is None else {"after": after}, caller)))


def pages(service, caller="web1"):
    found = [ask(service, caller)]
    while (after := found[-1]["more"]) is not None:
        found.append(ask(service, caller, after))
    return found


def together(found):
    return {kind: [record for page in found for record in page[kind]] for kind in KINDS}


def names(records):
    return [(record["owner"], record.get("volume", record["name"])) for record in records if "host" not in record]


@pytest.fixture
def shared(opts):
    """A controller with a policy, and volumes of two minions and shared ones; every host has a
    fence.
    """
    opts["storage"]["policy"] = {
        "web1": {"shared": ["a*", "b00001"]},
        "all1": {"shared": ["*"]},
        "some1": {"shared": ["[ab]0000?", "a*"]},
        "none1": {"shared": []},
    }
    service = Service(opts)
    for owner in ("web1", "web2", "all1"):
        fill(service.catalog, owner, 4, snapshots=2)
    for prefix in ("a", "b", "c", "A"):
        fill(service.catalog, "shared", 3, prefix=prefix)
    for number, host in enumerate(["web1", "web1", "web2"]):
        ids = {"volume_id": f"v{number}", "attached_id": f"v{number // 2}"}
        service.catalog.add(Fence(id=str(number), **ids, owner=host, volume="data", host=host))
    yield service
    service.close()


def test_an_ordinary_minion_gets_all_at_once(service):
    fill(service.catalog, "web1", 300, snapshots=2)
    found = ask(service)
    assert found["more"] is None
    assert (len(found["volumes"]), len(found["snapshots"]), len(found["connections"])) == (300, 600, 300)


def test_one_answer_holds_about_650_connected_volumes(service):
    fill(service.catalog, "db1.example.com", 600)
    assert ask(service, "db1.example.com")["more"] is None
    fill(service.catalog, "db2.example.com", 700)
    assert ask(service, "db2.example.com")["more"] is not None


@pytest.mark.slow
def test_each_page_of_a_minion_with_20000_volumes_can_be_carried_by_the_bus(service):
    fill(service.catalog, "web1", 20_000)
    fill(service.catalog, "web2", 10)
    found = pages(service)
    # The envelope adds less than 1 KiB.
    assert max(len(json.dumps(page, ensure_ascii=False).encode()) for page in found) < MAX_REPLY - 1024
    assert len(found) < 40
    whole = together(found)
    assert names(whole["volumes"]) == [("web1", f"v{n:05}") for n in range(20_000)]
    assert len({connection["id"] for connection in whole["connections"]}) == 20_000 == len(whole["connections"])


@pytest.mark.parametrize("minion", ["web1", "web2", "all1", "some1", "none1"])
@pytest.mark.parametrize("size", [1, 1000, 5000])
@pytest.mark.parametrize("chunk", [1, 2, 500])
def test_pages_are_the_whole(shared, monkeypatch, minion, size, chunk):
    if minion == "web2":
        with pytest.raises(Exception, match="nothing in the controller's policy"):
            ask(shared, minion)
        return
    [page] = pages(shared, minion)
    whole = together([page])
    monkeypatch.setattr(inventory, "PAGE", size)
    monkeypatch.setattr(paging, "CHUNK", chunk)
    found = pages(shared, minion)
    assert len(found) > (len(whole["volumes"]) > 4 and size < 5000)
    assert together(found) == whole
    assert all({**p, **dict.fromkeys(KINDS), "time": 0, "more": 0} == {**page, **dict.fromkeys(KINDS), "time": 0, "more": 0} for p in found)


def test_a_minion_sees_only_the_shared_volumes_that_the_policy_allows(shared):
    seen = {minion: together(pages(shared, minion)) for minion in ("web1", "all1", "some1", "none1")}
    own = [f"v{n:05}" for n in range(4)]
    several = {"web1": ["a00000", "a00001", "a00002", "b00001"], "none1": [], "some1": [f"{p}0000{n}" for p in "ab" for n in range(3)]}
    for minion, others in several.items():
        mine = own if minion == "web1" else []
        wanted = [*((minion, name) for name in mine), *(("shared", name) for name in others)]
        assert names(seen[minion]["volumes"]) == wanted
        assert [(c["owner"], c["volume"]) for c in seen[minion]["connections"]] == wanted
        assert {s["owner"] for s in seen[minion]["snapshots"]} == ({minion} if mine else set())
    assert len(seen["all1"]["volumes"]) == 4 + 12
    assert (seen["web1"]["fenced"], seen["all1"]["fenced"]) == ([["v0"], ["v0", "v1"]], [])


@pytest.mark.parametrize(
    "after",
    [
        *([], {}, "x", 0, [0], [-1, "a"], [6, "a"], [99], [True, "a"], [0.0, "a"], ["0", "a"], [None]),
        *([0, "a", "b"], [0, 1], [0, None], [0, ["a"]], [0, {"a": 1}], [0, "\ud800"], [0, ""], [3, "a", "b"], [5, "a", "b"]),
    ],
)
def test_a_place_that_is_none_is_refused(service, after):
    with pytest.raises(InvalidArgumentError) as caught:
        service.execute("inventory", {"after": after}, "web1")
    assert caught.value.field == "after"


@pytest.mark.parametrize("after", [[0, "!"], [1, "!"], [2, "!"], [3, "!", "!", "!"], [4, "!", "!", "!"], [5, "!"], [0, "' OR 1=1 --"]])
def test_a_place_that_was_made_up_shows_nothing_of_others(shared, after):
    everything = together(pages(shared))
    for kind, records in together([ask(shared, after=after)]).items():
        assert all(record in everything[kind] for record in records)


def test_changes_between_the_pages_hide_no_other_record(shared, monkeypatch):
    monkeypatch.setattr(inventory, "PAGE", 1)
    first = ask(shared)
    shared.catalog.remove(shared.catalog.volume("web1", "v00000"))
    fill(shared.catalog, "web1", 1, prefix="u")
    fill(shared.catalog, "web1", 1, prefix="w")
    found = [first]
    while (after := found[-1]["more"]) is not None:
        found.append(ask(shared, after=after))
    own = [name for owner, name in names(together(found)["volumes"]) if owner == "web1"]
    assert own == ["v00000", "v00001", "v00002", "v00003", "w00000"]
