"""Plans as tables: a controller's inventory, a state, and the answer of its dry run.

They need neither root nor a controller, since a plan only reads.
"""

from __future__ import annotations

import pytest

from saltstorage.flow.inventory import Inventory
from saltstorage.model import Connection, Snapshot, Volume
from tests.unit.plans.minion import Host

MINE = Volume(id="v1", owner="web1", name="data", backend="local", size=2, formatted=True)
NEW = {"old": None, "new": {"size": 1, "backend": "local"}}


def volume(**given):
    return Volume(**{**vars(MINE), **given})


def connection(host, **given):
    return Connection(**{"id": "c1", "volume_id": "v1", "owner": "web1", "volume": "data", "host": host, "size": 2, **given})


def snapshot(**given):
    facts = {"id": "s1", "owner": "web1", "name": "cut", "volume_id": "v1", "volume": "data", "backend": "local", "size": 2}
    return Snapshot(**{**facts, **given})


def inventory(*records, fenced=()):
    kinds = {"volumes": Volume, "snapshots": Snapshot, "connections": Connection}
    found = {name: [r.to_wire() for r in records if isinstance(r, kind)] for name, kind in kinds.items()}
    backends = {"local": {"state": "up", "retains": True}, "other": {"state": "up", "retains": False}}
    types = {"gold": {"backends": ["other"]}, "any": {"backends": ["other", "gone", "local"]}}
    rights = {"types": types, "retain": True}
    return Inventory({**found, **rights, "fenced": list(fenced), "backends": backends, "default_backend": "local", "time": 1e9})


@pytest.fixture
def foretell(tmp_path):
    """A function that returns the answers of a dry run of states, over some inventory."""
    host = Host(tmp_path, "web1", tmp_path)

    def run(known, *states):
        host.context["saltstorage.inventory"] = (str(host.runs + 1), known)
        return host.apply(*states, test=True)

    return run


#: The records of the controller, the state function, its parameters, and the changes.
DONE = [
    ([], "present", {"size": 1}, {"data": NEW}),
    ([], "present", {"size": 1, "type": "gold"}, {"data": {"old": None, "new": {"size": 1, "backend": "other", "type": "gold"}}}),
    ([], "present", {"size": 1, "type": "any"}, {"data": {"old": None, "new": {"size": 1, "backend": "other or local", "type": "any"}}}),
    ([MINE], "present", {"size": 2}, {}),
    ([MINE], "present", {"size": 3}, {"size": {"old": 2, "new": 3}}),
    ([MINE], "present", {"size": 2, "protected": True}, {"protected": {"old": False, "new": True}}),
    ([volume(state="deleting")], "present", {"size": 1}, {"data": NEW}),
    (
        [MINE],
        "present",
        {"name": "copy", "size": 2, "source": {"volume": "data"}},
        {"copy": {"old": None, "new": {"size": 2, "backend": "local"}}},
    ),
    ([], "absent", {}, {}),
    ([MINE], "absent", {}, {"data": {"old": {"id": "v1", "size": 2, "backend": "local"}, "new": None}}),
    ([], "disconnected", {}, {}),
    ([MINE, connection("web1")], "disconnected", {}, {"path": {"old": None, "new": None}}),
    ([], "unmounted", {}, {}),
    ([MINE], "extended", {"size": 1}, {}),
    ([MINE], "extended", {"size": 4}, {"size": {"old": 2, "new": 4}}),
    ([MINE], "snapshot_present", {"name": "cut"}, {"cut": {"old": None, "new": {"volume": "data", "size": 2}}}),
    ([MINE, snapshot()], "snapshot_present", {"name": "cut"}, {}),
    ([], "snapshot_absent", {"name": "cut"}, {}),
    ([MINE, snapshot()], "snapshot_absent", {"name": "cut"}, {"cut": {"old": {"id": "s1", "volume": "data", "size": 2}, "new": None}}),
    ([MINE, snapshot(series="cut", created=1e9 - 60)], "snapshot_rotated", {"name": "cut"}, {}),
    ([], "snapshot_rotated", {"name": "cut", "keep": 0}, {}),
]


@pytest.mark.parametrize(("records", "function", "given", "changes"), DONE)
def test_a_dry_run_foretells_the_changes(foretell, records, function, given, changes):
    [answer] = foretell(inventory(*records), (function, {"name": "data", **given}))
    assert (answer["result"], answer["changes"]) == (None if changes else True, changes), answer


#: The same, with the error's code and words instead of the changes.
REFUSED = [
    ([], "present", {}, "INVALID_ARGUMENT", "size is missing"),
    ([], "present", {"size": 1, "backend": "third"}, "INVALID_ARGUMENT", "'third'"),
    ([], "present", {"size": 1, "type": "gold", "backend": "local"}, "INVALID_ARGUMENT", "name one of the two"),
    ([], "present", {"size": 1, "source": {"volume": "old"}}, "NOT_FOUND", "the source volume 'old'"),
    ([MINE], "present", {"size": 1}, "OUT_OF_RANGE", "cannot shrink"),
    ([MINE], "present", {"name": "copy", "size": 1, "source": {"volume": "data"}}, "OUT_OF_RANGE", "at least that"),
    ([MINE], "present", {"size": 3, "resize": False}, "ALREADY_EXISTS", "size is 2"),
    ([MINE], "present", {"size": 2, "source": {"volume": "old"}}, "ALREADY_EXISTS", "it was made empty"),
    ([volume(state="reverting")], "present", {"size": 2}, "FAILED_PRECONDITION", "set back to a snapshot"),
    ([volume(owner="shared")], "present", {"size": 3, "owner": "shared"}, "PERMISSION_DENIED", "on the master"),
    ([], "present", {"size": 1, "owner": "db1"}, "PERMISSION_DENIED", "volumes of db1"),
    ([volume(protected=True)], "absent", {}, "FAILED_PRECONDITION", "is protected"),
    ([MINE, connection("db1")], "absent", {}, "FAILED_PRECONDITION", "connected to db1"),
    ([MINE, connection("db1")], "absent", {"disconnect": True}, "FAILED_PRECONDITION", "connected to db1"),
    ([MINE, snapshot()], "absent", {}, "FAILED_PRECONDITION", "'cut'"),
    ([MINE, snapshot()], "absent", {"series": "daily"}, "FAILED_PRECONDITION", "'cut'"),
    ([volume(backend="other")], "absent", {"retain": True}, "UNIMPLEMENTED", "'other'"),
    ([], "connected", {}, "NOT_FOUND", "give its size"),
    ([MINE, connection("db1")], "connected", {}, "FAILED_PRECONDITION", "attached to db1"),
    ([MINE], "connected", {"passphrase": "sdb://x/y"}, "INVALID_ARGUMENT", "encrypted: True"),
    ([], "extended", {"size": 1}, "NOT_FOUND", "does not exist"),
    ([MINE], "extended", {"size": 1, "exact": True}, "OUT_OF_RANGE", "cannot shrink"),
    ([], "snapshot_present", {"name": "cut"}, "NOT_FOUND", "'data'"),
    ([MINE, snapshot(volume="old", volume_id="v0")], "snapshot_present", {"name": "cut"}, "ALREADY_EXISTS", "volume 'old'"),
    ([MINE, snapshot(volume_id="v0")], "snapshot_present", {"name": "cut"}, "ALREADY_EXISTS", "an earlier volume"),
    ([MINE, snapshot()], "snapshot_present", {"name": "cut", "freeze": True}, "ALREADY_EXISTS", "in use"),
    ([volume(protected=True)], "snapshot_rotated", {"name": "cut", "keep": 0}, "FAILED_PRECONDITION", "is protected"),
]


@pytest.mark.parametrize(("records", "function", "given", "code", "words"), REFUSED)
def test_a_dry_run_refuses_with_a_code(foretell, records, function, given, code, words):
    [answer] = foretell(inventory(*records), (function, {"name": "data", **given}))
    assert (answer["result"], answer["changes"]) == (False, {}), answer
    assert answer["comment"].startswith(f"{code}: "), answer
    assert words in answer["comment"], answer


COPY = {"name": "copy", "size": 2, "source": {"volume": "data"}}
SOURCE = ("present", {"name": "data", "size": 2})
FROM_CUT = ("present", {"name": "copy", "size": 2, "source": {"snapshot": "cut"}})


@pytest.mark.parametrize(
    ("records", "states", "results"),
    [
        ([], [SOURCE, ("present", COPY)], [None, None]),
        ([], [("present", COPY), SOURCE], [False, None]),
        ([], [("present", {"name": "data", "size": 0}), ("present", COPY)], [False, False]),
        ([MINE], [("present", COPY), SOURCE], [None, True]),
        ([volume(formatted=False)], [("present", COPY), SOURCE], [None, True]),
        ([volume(formatted=False)], [("present", COPY), ("mounted", {"name": "data"})], [False, None]),
        ([MINE], [("present", COPY), ("present", {"name": "data", "size": 1})], [None, False]),
        ([MINE], [("snapshot_present", {"name": "cut"}), FROM_CUT], [None, None]),
        ([MINE], [FROM_CUT, ("snapshot_present", {"name": "cut"})], [False, None]),
        ([MINE, snapshot()], [FROM_CUT, ("absent", {"name": "data"})], [None, False]),
        ([MINE], [("absent", {"name": "data"}), ("present", COPY)], [False, None]),
        ([MINE], [("present", COPY), ("absent", {"name": "data"})], [None, None]),
        ([volume(owner="shared")], [("present", {**SOURCE[1], "owner": "shared"}), ("present", COPY)], [True, False]),
    ],
)
def test_m16_states_of_one_run_that_depend_on_one_another(foretell, records, states, results):
    """Row M16, as far as a dry run can tell."""
    answers = foretell(inventory(*records), *states)
    assert [answer["result"] for answer in answers] == results, answers
