"""Volumes of a backend that are taken over, let go, and given to other owners: real files, catalog
and metadata.
"""

import os
from pathlib import Path

import pytest

from saltstorage import model
from saltstorage.controller.operations.core import Caller
from saltstorage.controller.service import Service
from saltstorage.errors import (
    AlreadyExistsError,
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    PermissionDeniedError,
    ResourceExhaustedError,
)

pytestmark = pytest.mark.slow

CONNECTOR = {"host": "web1", "ip": "192.0.2.1", "multipath": False}
GIB = 2**30


@pytest.fixture
def directory(service, tmp_path):
    """The backend's directory, with somebody else's file in it."""
    service.core.provider("local")
    folder = tmp_path / "volumes"
    (folder / "old.img").write_bytes(b"precious" * 512)
    return folder


def adopt(service, reference="old.img", name="data", owner="web1", **more):
    return service.adoption.manage(name=name, owner=owner, reference=reference, **more)


def test_volumes_that_can_be_adopted_are_listed(service, directory):
    service.execute("create", {"name": "own", "size": 1}, "web1")
    (directory / "empty").touch()
    (directory / "link").symlink_to("/etc/passwd")
    (directory / "folder").mkdir()
    listed = service.adoption.manageable()
    assert listed == [
        {"reference": {"source-name": "empty"}, "size": 0, "id": "", "adoptable": False, "reason": "it is empty"},
        {"reference": {"source-name": "old.img"}, "size": 1, "id": "", "adoptable": True, "reason": ""},
    ]


def test_an_adopted_volume_has_its_data_and_is_never_formatted(service, directory):
    answer = adopt(service)
    volume = service.catalog.volume("web1", "data")
    assert answer["new"] is True
    assert (volume.state, volume.size, volume.formatted) == (model.AVAILABLE, 1, True)
    path = directory / f"volume-{volume.id}"
    assert path.read_bytes()[:8] == b"precious"
    assert path.stat().st_size == GIB, "a part of a GiB is made a whole one"
    assert not (directory / "old.img").exists()
    info = service.execute("connect", {"name": "data", "connector": CONNECTOR}, "web1")["connection_info"]
    assert info["data"]["device_path"] == str(path)
    assert service.execute("mark_formatted", {"name": "data"}, "web1") == {"was": True}
    assert service.execute("extend", {"name": "data", "size": 2}, "web1")["volume"]["size"] == 2
    # The state of the owner finds nothing to change.
    assert service.execute("create", {"name": "data", "size": 2}, "web1")["old"] is not None


def test_c13_an_adopted_volume_shows_whether_it_is_encrypted_when_it_is_used(service, directory):
    adopt(service)
    assert service.catalog.volume("web1", "data").encrypted is None
    service.execute("snapshot_create", {"name": "snap", "volume": "data"}, "web1")
    copy = {"name": "copy", "size": 1, "source": {"snapshot": "snap"}}
    assert service.execute("create", copy, "web1")["volume"]["encrypted"] is None
    service.execute("connect", {"name": "data", "connector": CONNECTOR, "encrypted": True}, "web1")
    assert service.execute("mark_formatted", {"name": "data", "encryption": True}, "web1") == {"was": False}
    assert service.catalog.volume("web1", "data").encrypted is True
    with pytest.raises(AlreadyExistsError, match="is encrypted"):
        service.execute("connect", {"name": "data", "connector": CONNECTOR}, "web1")


def test_adopting_again_changes_nothing(service, directory):
    first = adopt(service)
    again = adopt(service)
    assert (again["new"], again["volume"]["id"]) == (False, first["volume"]["id"])


def test_a_managed_volume_is_not_adopted(service, directory):
    volume = service.execute("create", {"name": "own", "size": 1}, "web1")["volume"]
    with pytest.raises(AlreadyExistsError, match="volume 'own' of web1 already"):
        adopt(service, f"volume-{volume['id']}")
    assert service.catalog.volume("web1", "data") is None


def test_a_name_that_is_taken_is_refused(service, directory):
    service.execute("create", {"name": "data", "size": 1}, "web1")
    with pytest.raises(AlreadyExistsError, match="choose another name"):
        adopt(service)
    assert (directory / "old.img").exists()


@pytest.mark.root
def test_a_file_in_use_is_not_adopted(service, directory, tmp_path):
    from saltstorage.consumer.devices import loop
    from tests.loops import let_go

    device = loop.attach(str(directory / "old.img"), loop.tag(str(tmp_path)))
    try:
        with pytest.raises(FailedPreconditionError, match="in use"):
            adopt(service)
    finally:
        let_go(device)
    assert (directory / "old.img").exists()
    assert service.catalog.volumes() == []


@pytest.mark.parametrize("reference", ["nothing", "../volumes/old.img", "link", ".hidden", {"source-id": "1"}, {"source-name": 3}])
def test_a_wrong_reference_leaves_nothing(service, directory, reference):
    (directory / "link").symlink_to("old.img")
    (directory / ".hidden").write_bytes(b"x")
    with pytest.raises(InvalidArgumentError):
        adopt(service, reference)
    assert service.catalog.volumes() == []
    assert adopt(service)["new"], "and nothing of it is in the way"


def test_released_and_adopted_again(service, directory):
    volume = adopt(service)["volume"]
    service.execute("connect", {"name": "data", "connector": CONNECTOR}, "web1")
    with pytest.raises(FailedPreconditionError, match="web1"):
        service.adoption.unmanage(name="data", owner="web1")
    service.execute("disconnect", {"name": "data"}, "web1")
    service.execute("snapshot_create", {"name": "cut", "volume": "data"}, "web1")
    with pytest.raises(FailedPreconditionError, match="cut"):
        service.adoption.unmanage(name="data", owner="web1")
    service.execute("snapshot_delete", {"name": "cut"}, "web1")
    released = service.adoption.unmanage(name="data", owner="web1")
    assert released["array_name"] == f"volume-{volume['id']}"
    assert service.catalog.volumes() == []
    assert (directory / released["array_name"]).read_bytes()[:8] == b"precious"
    assert service.adoption.unmanage(name="data", owner="web1") == {"old": None, "array_name": "", "take_over": ""}
    assert service.adoption.manageable()[0]["id"] == volume["id"]
    again = adopt(service, released["array_name"], "back")["volume"]
    assert (directory / f"volume-{again['id']}").read_bytes()[:8] == b"precious"


def make(service, name="data", owner="web1"):
    return service.execute("create", {"name": name, "size": 1}, owner)["volume"]


def test_a_given_volume_takes_its_snapshots_along(service):
    volume = make(service)
    service.execute("snapshot_create", {"name": "cut", "volume": "data"}, "web1")
    answer = service.transfers.give(owner="web1", name="data", new_owner="db1", new_name="pg")
    assert answer["snapshots"] == ["cut"]
    given = service.catalog.volume("db1", "pg")
    assert (given.id, service.catalog.volume("web1", "data")) == (volume["id"], None)
    # The new owner can do everything with it, the old one nothing.
    with pytest.raises(NotFoundError):
        service.execute("connect", {"name": "data", "connector": CONNECTOR}, "web1")
    service.execute("create", {"name": "copy", "size": 1, "source": {"snapshot": "cut"}}, "db1")
    assert service.execute("snapshot_delete", {"name": "cut"}, "db1")["old"]
    service.execute("delete", {"name": "pg"}, "db1")


def test_a_connected_volume_is_not_given(service):
    make(service)
    service.execute("connect", {"name": "data", "connector": CONNECTOR}, "web1")
    with pytest.raises(FailedPreconditionError, match="connected to web1"):
        service.transfers.give(owner="web1", name="data", new_owner="db1")
    assert service.catalog.volume("web1", "data")


def test_names_must_be_free_at_the_new_owner(service):
    make(service)
    make(service, "other")
    make(service, owner="db1")
    with pytest.raises(AlreadyExistsError, match="new_name"):
        service.transfers.give(owner="web1", name="data", new_owner="db1")
    service.execute("snapshot_create", {"name": "cut", "volume": "other"}, "web1")
    service.execute("snapshot_create", {"name": "cut", "volume": "data"}, "db1")
    with pytest.raises(AlreadyExistsError, match="'cut'"):
        service.transfers.give(owner="web1", name="other", new_owner="db1")
    assert {(v.owner, v.name) for v in service.catalog.volumes()} == {("web1", "data"), ("web1", "other"), ("db1", "data")}


def test_a_volume_is_renamed(service):
    volume = make(service)
    service.transfers.give(owner="web1", name="data", new_owner="web1", new_name="archive")
    assert service.catalog.volume("web1", "archive").id == volume["id"]


def test_the_new_owners_policy_decides(opts):
    opts["storage"]["policy"] = {"web*": {}, "db*": {"max_gib": 1}, "app*": {"backends": ["fast"]}}
    service = Service(opts)
    make(service)
    make(service, owner="db1", name="full")
    for owner, error in (("db1", ResourceExhaustedError), ("app1", PermissionDeniedError), ("nobody", PermissionDeniedError)):
        with pytest.raises(error):
            service.transfers.give(owner="web1", name="data", new_owner=owner)
    service.transfers.give(owner="web1", name="data", new_owner="db2")
    service.transfers.give(owner="db2", name="data", new_owner="shared")
    assert service.catalog.volume("shared", "data")
    service.call("delete", {"name": "data", "owner": "shared"}, Caller())
    service.close()


def test_a_volume_goes_to_known_minions_only(service):
    make(service)

    def give(owner, new_owner, **given):
        service.transfers.give(owner=owner, name="data", new_owner=new_owner, known={"web1", "db1"}.__contains__, **given)

    with pytest.raises(NotFoundError, match="db11 has no accepted key") as caught:
        give("web1", "db11")
    assert caught.value.field == "new_owner"
    with pytest.raises(InvalidArgumentError, match="force"):
        give("web1", "db11", force="yes")
    assert service.catalog.volume("web1", "data")
    give("web1", "db1")
    give("db1", "shared")
    give("shared", "db11", force=True)
    # Another name changes no owner, and without a master nobody can tell.
    give("db11", "db11", new_name="data")
    service.transfers.give(owner="db11", name="data", new_owner="db12")
    assert service.catalog.volume("db12", "data")


def test_minions_cannot_ask_for_any_of_it(service, directory):
    for op in ("manage", "unmanage", "give", "migrate", "migrate_finish", "check", "repair", "manageable"):
        with pytest.raises(InvalidArgumentError, match="no operation"):
            service.execute(op, {}, "web1")
    assert os.listdir(directory) == [Path("old.img").name]
