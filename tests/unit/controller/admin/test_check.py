"""The findings of a check, and the work of a repair: real files, catalog and metadata."""

import json
import os
import uuid

import pytest

from saltstorage import model
from saltstorage.controller.access.locks import volume_key
from saltstorage.controller.service import Service
from saltstorage.errors import InvalidArgumentError

CONNECTOR = {"host": "web1", "ip": "192.0.2.1", "multipath": False}


def make(service, name="data", owner="web1"):
    return service.execute("create", {"name": name, "size": 1}, owner)["volume"]


def found(service, known=None, **where):
    return [(f.kind, f.what, f.name or f.id) for f in service.check(known).findings(**where)]


def test_nothing_is_found_where_all_is_well(service):
    make(service)
    service.execute("snapshot_create", {"name": "cut", "volume": "data"}, "web1")
    service.execute("connect", {"name": "data", "connector": CONNECTOR}, "web1")
    assert found(service, lambda minion: minion == "web1") == []
    service.execute("disconnect", {"name": "data"}, "web1")
    assert found(service) == [("unattached", "volume", "data")]
    assert service.repair().run(apply=True) == [], "an unattached volume is no fault"


def test_owners_and_hosts_without_key_are_found(service):
    make(service)
    make(service, "other", "db1")
    service.execute("connect", {"name": "data", "connector": CONNECTOR}, "web1")
    assert found(service, lambda minion: minion == "db1", kinds=["unknown_owner", "dead_host"]) == [
        ("unknown_owner", "volume", "data"),
        ("dead_host", "connection", "data"),
    ]
    assert service.repair().run(apply=True) == []
    assert service.catalog.connections()


@pytest.fixture
def orphan(service, tmp_path):
    """A file with a name of the project's form, which no record knows."""
    service.core.provider("local")
    orphan = str(uuid.uuid4())
    (tmp_path / "volumes" / f"volume-{orphan}").write_bytes(b"x" * 4096)
    return orphan


def test_an_orphan_is_deleted_only_when_named(service, orphan, files):
    volume = make(service)
    (finding,) = service.check().findings(kinds="orphan")
    assert (finding.id, finding.backend, finding.named, finding.repair) == (orphan, "local", True, "delete the volume")
    assert service.repair().run(apply=True) == []
    assert len(files()) == 2
    (told,) = service.repair().run(remove=orphan)
    assert (told["done"], len(files())) == (False, 2)
    (done,) = service.repair().run(remove=[orphan], apply=True)
    assert done["done"] is True
    assert files() == [f"volume-{volume['id']}"]
    with pytest.raises(InvalidArgumentError, match=orphan):
        service.repair().run(remove=[orphan], apply=True)


def test_a_recorded_volume_cannot_be_removed_as_an_orphan(service, files):
    volume = make(service)
    with pytest.raises(InvalidArgumentError, match=volume["id"]):
        service.repair().run(remove=[volume["id"]], apply=True)
    assert len(files()) == 1


def test_files_of_others_are_not_found(service, orphan, tmp_path):
    (tmp_path / "volumes" / "vm.img").write_bytes(b"x")
    (tmp_path / "volumes" / f"volume-{uuid.uuid4()}.bak").symlink_to("/dev/null")
    assert [f.id for f in service.check().findings(kinds="orphan")] == [orphan]


def test_a_volume_that_is_known_to_the_metadata_only_is_an_orphan(service, files):
    """As after the restore of an old backup of the catalog."""
    make(service)
    service.execute("snapshot_create", {"name": "cut", "volume": "data"}, "web1")
    volume, snapshot = service.catalog.volume("web1", "data"), service.catalog.snapshot("web1", "cut")
    service.catalog.apply(remove=[volume, snapshot])
    assert found(service) == [("orphan", "volume", volume.id), ("orphan", "snapshot", snapshot.id)]
    answers = service.repair().run(remove=[volume.id, snapshot.id], apply=True)
    assert [(a["done"], a.get("code")) for a in answers] == [(False, "FAILED_PRECONDITION"), (True, None)], "snapshots go first"
    assert [a["done"] for a in service.repair().run(remove=volume.id, apply=True)] == [True]
    assert files() == []


def test_a_record_without_volume_is_removed_when_named(service, files, tmp_path):
    gone, kept = make(service), make(service, "kept")
    os.unlink(tmp_path / "volumes" / f"volume-{gone['id']}")
    assert found(service, kinds="gone") == [("gone", "volume", "data")]
    assert service.repair().run(apply=True) == []
    assert [a["done"] for a in service.repair().run(remove=gone["id"], apply=True)] == [True]
    assert [v.id for v in service.catalog.volumes()] == [kept["id"]]
    assert len(files()) == 1


def test_a_snapshot_without_volume_is_removed_when_named(service, files):
    make(service)
    service.execute("snapshot_create", {"name": "cut", "volume": "data"}, "web1")
    service.catalog.remove(service.catalog.volume("web1", "data"))
    snapshot = service.catalog.snapshot("web1", "cut")
    assert ("left_over", "snapshot", "cut") in found(service)
    assert service.repair().run(apply=True) == []
    assert [a["done"] for a in service.repair().run(remove=snapshot.id, apply=True)] == [True]
    assert service.catalog.snapshots() == []
    assert [name for name in files() if name.startswith("snapshot-")] == []


def test_a_connection_without_volume_is_removed(service):
    make(service)
    service.execute("connect", {"name": "data", "connector": CONNECTOR}, "web1")
    service.catalog.remove(service.catalog.volume("web1", "data"))
    assert ("left_over", "connection", "data") in found(service)
    assert [a["done"] for a in service.repair().run(kinds="left_over", apply=True)] == [True]
    assert service.catalog.connections() == []


@pytest.mark.parametrize(
    ("state", "kind", "left"),
    [
        (model.CREATING, "half_done", 0),
        (model.DELETING, "half_done", 0),
        (model.ERROR, "error", 0),
        (model.EXTENDING, "half_done", 1),
        (model.RELEASING, "half_done", 0),
        (model.ADOPTING, "half_done", 1),
    ],
)
def test_half_done_volumes_are_settled(service, state, kind, left):
    volume = make(service)
    source = {"kind": "array", "name": json.dumps({"source-name": f"volume-{volume['id']}"})}
    service.catalog.update(service.catalog.volume("web1", "data"), state=state, source=source)
    assert found(service)[0] == (kind, "volume", "data")
    (told,) = service.repair().run()
    assert told["repair"]
    assert service.catalog.volume("web1", "data").state == state, "a dry run changes nothing"
    assert [a["done"] for a in service.repair().run(apply=True)] == [True]
    assert [v.state for v in service.catalog.volumes()] == [model.AVAILABLE] * left
    assert [f for f in found(service) if f[0] not in ("unattached", "orphan")] == []


def test_half_done_snapshots_and_connections_are_settled(service):
    make(service)
    service.execute("snapshot_create", {"name": "cut", "volume": "data"}, "web1")
    service.execute("connect", {"name": "data", "connector": CONNECTOR}, "web1")
    service.catalog.update(service.catalog.snapshot("web1", "cut"), state=model.DELETING)
    service.catalog.update(service.catalog.connections()[0], state=model.DISCONNECTING)
    assert found(service) == [("half_done", "snapshot", "cut"), ("half_done", "connection", "data")]
    assert [a["done"] for a in service.repair().run(apply=True)] == [True, True]
    assert (service.catalog.snapshots(), service.catalog.connections()) == ([], [])


def test_work_of_another_process_is_left_alone(opts, service):
    make(service)
    service.catalog.update(service.catalog.volume("web1", "data"), state=model.EXTENDING)
    other = Service(opts)
    with other.core.locks.held(volume_key("web1", "data"), why="work"):
        assert found(service) == []
    assert found(service) == [("half_done", "volume", "data")]
    other.close()


def test_a_backend_that_is_down_hides_nothing_of_the_others(opts, tmp_path):
    (tmp_path / "file").touch()
    opts["storage"]["backends"]["broken"] = {
        "volume_driver": "saltstorage.drivers.file.FileDriver",
        "file_driver_path": str(tmp_path / "file"),
    }
    opts["storage"]["default_backend"] = "local"
    service = Service(opts)
    make(service)
    assert found(service) == [("unattached", "volume", "data"), ("backend", "backend", "broken")]
    assert found(service, backend="local") == [("unattached", "volume", "data")]
    with pytest.raises(InvalidArgumentError, match="no kind"):
        service.check().findings(kinds="nonsense")
    service.close()


def test_x6_a_host_that_has_not_followed_is_found(service):
    make(service)
    service.execute("connect", {"name": "data", "connector": CONNECTOR}, "web1")
    assert service.execute("extend", {"name": "data", "size": 2}, "web1")["behind"] == ["web1"]
    (finding,) = service.check().findings()
    assert (finding.kind, finding.what, finding.name, finding.host, finding.backend) == ("behind", "connection", "data", "web1", "local")
    assert "2 GiB, and 1 GiB there" in finding.text
    assert service.repair().run(apply=True) == [], "the host's own state does that"
    assert service.execute("followed", {"name": "data", "size": 2}, "web1")["connection"]["size"] == 2
    assert service.check().findings() == []


def test_b11_a_volume_that_grew_on_the_array_is_taken_over_with_its_size(service, tmp_path):
    volume = make(service)
    service.execute("connect", {"name": "data", "connector": CONNECTOR}, "web1")
    os.truncate(tmp_path / "volumes" / f"volume-{volume['id']}", 3 << 30)
    (finding,) = service.check().findings(kinds="resized")
    assert "the backend has 3 GiB, and the catalog 1 GiB" in finding.text
    assert service.repair().run(apply=True) == []
    (done,) = service.repair().run(remove=volume["id"], apply=True)
    assert done["done"] is True
    assert service.catalog.volume("web1", "data").size == 3
    assert found(service) == [("behind", "connection", "data")]
    assert service.execute("extend", {"name": "data", "size": 4}, "web1")["volume"]["size"] == 4


def test_b11_a_volume_that_shrank_on_the_array_is_left_to_the_administrator(service, tmp_path):
    service.execute("create", {"name": "data", "size": 2}, "web1")
    (volume,) = service.catalog.volumes()
    os.truncate(tmp_path / "volumes" / f"volume-{volume.id}", 1 << 30)
    (finding,) = service.check().findings(kinds="resized")
    assert (finding.repair, "what was beyond is lost" in finding.text) == ("", True)
    with pytest.raises(InvalidArgumentError):
        service.repair().run(remove=volume.id, apply=True)
    assert service.catalog.volume("web1", "data").size == 2
