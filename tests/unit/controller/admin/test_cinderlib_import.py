"""Volumes that are taken over from another cinderlib's database, which a real cinderlib wrote in
another process.
"""

import json
import sqlite3
import subprocess
import sys
import textwrap

import pytest

from saltstorage import model
from saltstorage.errors import InvalidArgumentError

pytestmark = pytest.mark.slow

WRITER = textwrap.dedent(
    """
    import json, sys
    from saltstorage.controller.cinder import bridge
    database, folder, state = sys.argv[1:]
    Backend = bridge.setup(database, state)
    backend = Backend("their-lvm", volume_driver="saltstorage.drivers.file.FileDriver", file_driver_path=folder)
    made = {}
    for name in ("data", "connected", "unnamed"):
        volume = backend.create_volume(1, name=None if name == "unnamed" else name, metadata={"team": "db"})
        made[name] = volume.id
    volume = next(v for v in backend.volumes if v.name == "data")
    made["cut"] = volume.create_snapshot("cut").id
    made["broken"] = backend.create_volume(1, name="broken").id
    next(v for v in backend.volumes if v.name == "connected").connect({"host": "old", "ip": "192.0.2.9", "multipath": False})
    print(json.dumps(made))
    """
)


@pytest.fixture
def theirs(service, tmp_path, checkout):
    """A database that another cinderlib wrote, over the same directory: its URL and its
    contents.
    """
    service.core.provider("local")
    database = tmp_path / "theirs.sqlite"
    command = [sys.executable, "-c", WRITER, f"sqlite:///{database}", str(tmp_path / "volumes"), str(tmp_path / "their-state")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env={"PYTHONPATH": str(checkout / "_utils")}, check=False)
    assert done.returncode == 0, done.stderr
    made = json.loads(done.stdout.splitlines()[-1])
    with sqlite3.connect(database) as connection:
        connection.execute("update volumes set status = 'error', provider_location = 'x' where id = ?", (made["broken"],))
    return f"sqlite:///{database}", made


def test_volumes_and_snapshots_are_taken_over_with_their_ids(service, theirs, files):
    url, made = theirs
    before = files()
    told = {a["id"]: a for a in service.importing.run(url=url, owner="db1")}
    assert service.catalog.volumes() == []
    assert [a["done"] for a in told.values()] == [False] * 4
    assert (told[made["data"]]["name"], told[made["data"]]["snapshots"]) == ("data", ["cut"])
    assert "connected" in told[made["connected"]]["reason"]
    assert "available" in told[made["broken"]]["reason"]

    answers = {a["id"]: a for a in service.importing.run(url=url, owner="db1", names={made["unnamed"]: "logs"}, apply=True)}
    assert {key for key, a in answers.items() if a["done"]} == {made["data"], made["unnamed"]}
    volume = service.catalog.volume("db1", "data")
    assert (volume.id, volume.state, volume.size, volume.formatted) == (made["data"], model.AVAILABLE, 1, True)
    assert service.catalog.volume("db1", "logs").id == made["unnamed"]
    assert service.catalog.snapshot("db1", "cut").id == made["cut"]
    assert files() == before, "nothing changes on the array"
    assert [f.kind for f in service.check().findings(kinds=["orphan", "gone", "half_done"])] == ["orphan"] * 2
    # All operations work on them.
    service.execute("create", {"name": "copy", "size": 1, "source": {"snapshot": "cut"}}, "db1")
    service.execute("extend", {"name": "data", "size": 2}, "db1")
    service.execute("connect", {"name": "data", "connector": {"host": "db1", "ip": "192.0.2.1", "multipath": False}}, "db1")
    service.execute("disconnect", {"name": "data"}, "db1")
    service.execute("snapshot_delete", {"name": "cut"}, "db1")
    service.execute("delete", {"name": "data"}, "db1")
    assert f"volume-{made['data']}" not in files()

    again = {a["id"]: a for a in service.importing.run(url=url, owner="db1", apply=True)}
    assert "already" in again[made["unnamed"]]["reason"]
    assert "does not have it" in again[made["data"]]["reason"]


@pytest.mark.parametrize("method", ["import_volume", None])
def test_an_import_that_is_cut_off_leaves_nothing_that_deletes_data(service, theirs, files, monkeypatch, method):
    """Interrupted before the rows are written, and between them and the catalog's."""
    url, made = theirs
    before = files()
    provider = type(service.core.provider("local"))
    with monkeypatch.context() as patched:
        if method:
            patched.setattr(provider, method, _cut_off)
        patched.setattr(service.importing.volumes, "settle", _cut_off)
        with pytest.raises(KeyboardInterrupt):
            service.importing.run(url=url, owner="db1", apply=True)
    assert service.catalog.volumes()[0].state == model.ADOPTING
    service.recovery.run("local")
    assert files() == before
    left = [(v.state, len(service.catalog.snapshots(volume_id=v.id))) for v in service.catalog.volumes(owner="db1")]
    assert all(state == model.AVAILABLE for state, _ in left)
    assert (left == []) is bool(method)
    service.importing.run(url=url, owner="db1", apply=True)
    assert service.catalog.volume_by_id(made["data"]).state == model.AVAILABLE
    assert service.catalog.snapshot("db1", "cut")


def _cut_off(*_args, **_kwargs):
    raise KeyboardInterrupt


def test_a_volume_whose_name_is_taken_is_left_out(service, theirs):
    url, made = theirs
    service.execute("create", {"name": "data", "size": 1}, "db1")
    service.execute("snapshot_create", {"name": "cut", "volume": "data"}, "db1")
    told = {a["id"]: a.get("reason", "") for a in service.importing.run(url=url, owner="db1", apply=True)}
    assert "names" in told[made["data"]]
    names = {made["data"]: "data2", made["cut"]: "cut2"}
    assert {a["id"]: a["done"] for a in service.importing.run(url=url, owner="db1", names=names, apply=True)}[made["data"]]
    assert service.catalog.snapshot("db1", "cut2").volume == "data2"


def test_a_dry_run_reports_two_volumes_of_one_name(service, theirs):
    url, made = theirs
    with sqlite3.connect(url.removeprefix("sqlite:///")) as connection:
        connection.execute("update volumes set display_name = 'data' where id = ?", (made["unnamed"],))
    both = {made["data"], made["unnamed"]}
    [refused] = [a for a in service.importing.run(url=url, owner="db1") if a["id"] in both and "reason" in a]
    assert "names" in refused["reason"]
    names = {refused["id"]: "other"}
    assert {a["id"] for a in service.importing.run(url=url, owner="db1", names=names, apply=True) if a["done"]} == both


def test_a_database_that_cannot_be_read_is_reported(service, opts, theirs, tmp_path):
    url, _ = theirs
    (tmp_path / "empty.sqlite").touch()
    service.core.provider("local")
    wrong = {
        "password": "postgresql://cinder:geheim@db/cinderlib",
        "no table": f"sqlite:///{tmp_path}/empty.sqlite",
        "no database": f"sqlite:///{tmp_path}/none.sqlite",
        "own database": opts["storage"]["metadata_database"],
        "not an SQLAlchemy URL": "nonsense",
    }
    for text, given in wrong.items():
        with pytest.raises(InvalidArgumentError, match=text) as caught:
            service.importing.run(url=given, owner="db1")
        assert "geheim" not in str(caught.value)
    assert not (tmp_path / "none.sqlite").exists()
    with pytest.raises(InvalidArgumentError, match="their-lvm"):
        service.importing.run(url=url, owner="db1", source_backend="other")
