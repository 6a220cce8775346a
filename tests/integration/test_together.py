"""States of one kind in a row: one request for all, and each state's result as if it had been
alone.
"""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing

import pytest

pytestmark = [pytest.mark.root, pytest.mark.slow]
NAMES = ("one", "two words", "three")


def sls(function, names=NAMES, **parameters):
    return "#!json\n" + json.dumps(
        {f"{function} {n}": {f"storage_volume.{function}": [{"name": n}, *({k: v} for k, v in parameters.items())]} for n in names}
    )


@pytest.fixture
def requests(cluster):
    """A function that returns the operations that reached the engine since it was last called."""
    seen = set()

    def new():
        with closing(sqlite3.connect(f"file:{cluster.root}/controller/catalog.sqlite?mode=ro", uri=True)) as connection:
            rows = connection.execute("SELECT id, op FROM storage_requests ORDER BY received").fetchall()
        found = [op for key, op in rows if key not in seen]
        seen.update(key for key, _ in rows)
        return found

    new()
    return new


def test_the_life_of_volumes_in_a_row(cluster, requests):
    found = cluster.apply("alpha", sls("present", size=1))
    assert [state["result"] for state in found.values()] == [True] * 3
    for name in NAMES:
        assert found[f"present {name}"]["changes"][name]["new"]["size"] == 1
    assert requests() == ["inventory", "together"]

    found = cluster.apply("alpha", sls("connected"))
    for name in NAMES:
        assert found[f"connected {name}"]["changes"] == {"path": {"old": None, "new": f"{cluster.root}/alpha/dev/{name}"}}
    assert requests() == ["together"]
    attached = {a["name"]: a for a in cluster.salt("alpha", "storage.attachments")}
    assert {a["status"] for a in attached.values()} == {"ok"}
    assert sorted(attached) == sorted(NAMES)

    # Nothing is asked for when nothing is to be done.
    requests()
    found = cluster.apply("alpha", sls("connected"))
    assert [(state["result"], state["changes"]) for state in found.values()] == [(True, {})] * 3
    assert requests() == ["inventory"]

    found = cluster.apply("alpha", sls("disconnected"))
    for name in NAMES:
        assert found[f"disconnected {name}"]["changes"] == {"path": {"old": attached[name]["device"], "new": None}}
        assert found[f"disconnected {name}"]["comment"] == f"Volume {name!r} was disconnected."
    assert requests() == ["inventory", "together"]
    assert cluster.salt("alpha", "storage.attachments") == []

    found = cluster.apply("alpha", sls("absent"))
    for name in NAMES:
        assert found[f"absent {name}"]["changes"][name]["new"] is None
    assert requests() == ["inventory", "together"]
    assert cluster.run("storage.volumes", "owner=alpha") == []


def test_mounted_and_in_one_go_away_again(cluster, requests, tmp_path):
    mounted = {f"mounted {n}": {"storage_volume.mounted": [{"name": n}, {"size": 1}, {"mount": str(tmp_path / n)}]} for n in NAMES}
    found = cluster.apply("alpha", "#!json\n" + json.dumps(mounted))
    for name in NAMES:
        assert found[f"mounted {name}"]["result"] is True, found
        assert found[f"mounted {name}"]["changes"]["mount"] == {"old": None, "new": str(tmp_path / name)}
        assert (tmp_path / name).is_mount()
    # A file system is made in a volume's own turn, and that is recorded before.
    assert requests() == ["together", *["mark_formatted"] * 3]

    found = cluster.apply("alpha", sls("disconnected"))
    for name in NAMES:
        assert found[f"disconnected {name}"]["changes"]["mount"] == {"old": str(tmp_path / name), "new": None}
        assert found[f"disconnected {name}"]["changes"]["path"]["new"] is None
        assert not (tmp_path / name).exists()
    assert requests() == ["inventory", "together"]
    cluster.apply("alpha", sls("absent"))


def test_one_that_fails_fails_alone(cluster, requests):
    states = {
        "first": {"storage_volume.connected": [{"name": "first"}, {"size": 1}]},
        "missing": {"storage_volume.connected": [{"name": "missing"}]},
        "last": {"storage_volume.connected": [{"name": "last"}, {"size": 1}]},
        "wrong": {"storage_volume.connected": [{"name": "wrong"}, {"size": "ten"}]},
    }
    found = cluster.apply("alpha", "#!json\n" + json.dumps(states))
    assert {key: state["result"] for key, state in found.items()} == {"first": True, "missing": False, "last": True, "wrong": False}
    assert found["missing"]["comment"].startswith("NOT_FOUND")
    assert found["missing"]["changes"] == {}
    assert found["wrong"]["comment"].startswith("INVALID_ARGUMENT")
    assert [a["name"] for a in cluster.salt("alpha", "storage.attachments")] == ["first", "last"]

    # A volume in use stays, and keeps no other from going.
    device, mount = f"{cluster.root}/alpha/dev/first", f"{cluster.root}/mnt"
    holder = cluster.salt("alpha", "cmd.run", f"mkfs.ext4 -q {device} && mkdir {mount} && mount {device} {mount}")
    try:
        found = cluster.apply("alpha", sls("disconnected", ("last", "first")))
        assert found["disconnected last"]["result"] is True, holder
        assert found["disconnected first"]["result"] is False
        assert found["disconnected first"]["comment"].startswith("FAILED_PRECONDITION")
        assert [a["name"] for a in cluster.salt("alpha", "storage.attachments")] == ["first"]
    finally:
        cluster.salt("alpha", "cmd.run", f"umount {mount}")
    cluster.apply("alpha", sls("disconnected", ("first",)))
    found = cluster.apply("alpha", sls("absent", ("first", "last")))
    assert [state["result"] for state in found.values()] == [True, True]


def test_a_requisite_is_kept(cluster, requests):
    states = {
        "fails": {"storage_volume.present": [{"name": "fails"}, {"size": 1}, {"backend": "unknown"}]},
        "waits": {"storage_volume.present": [{"name": "waits"}, {"size": 1}, {"require": [{"storage_volume": "fails"}]}]},
    }
    found = cluster.apply("alpha", "#!json\n" + json.dumps(states))
    assert [state["result"] for state in found.values()] == [False, False]
    assert cluster.run("storage.volumes", "owner=alpha") == []
