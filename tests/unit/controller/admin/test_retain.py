"""Volumes that are deleted and whose data stays: the record goes, the file does not, and it can be
taken over again.
"""

from __future__ import annotations

import shlex

import pytest

from saltstorage import model
from saltstorage.controller.access.policy import Policy
from saltstorage.controller.operations.core import Caller
from saltstorage.controller.service import Service
from saltstorage.errors import FailedPreconditionError, InvalidArgumentError, PermissionDeniedError, UnimplementedError
from saltstorage.model import Volume
from saltstorage.rules import retains

pytestmark = pytest.mark.slow

CONNECTOR = {"host": "web1", "ip": "192.0.2.1", "multipath": False}


def run(service, op, name="data", caller="web1", **args):
    return service.execute(op, {"name": name, **args}, caller)


@pytest.fixture
def volume(service, tmp_path):
    """A volume with data on it."""
    made = run(service, "create", size=1)["volume"]
    with (tmp_path / "volumes" / f"volume-{made['id']}").open("r+b") as file:
        file.write(b"precious")
    return made


def content(tmp_path, name):
    return (tmp_path / "volumes" / name).read_bytes()[:8]


def run_command(service, command):
    """Carry out the command as a shell and salt-run would read it."""
    words = shlex.split(command)
    assert words[:2] == ["salt-run", "storage.manage"]
    return service.adoption.manage(**dict(word.split("=", 1) for word in words[2:]))["volume"]


@pytest.mark.parametrize("recorded", [False, True], ids=["asked for", "recorded"])
def test_d10_a_retained_volume_stays_on_the_backend_and_comes_back(service, volume, tmp_path, recorded):
    if recorded:
        assert run(service, "update", retain=True)["volume"]["retain"] is True
    reply = run(service, "delete", **({} if recorded else {"retain": True}))
    name = f"volume-{volume['id']}"
    assert (reply["old"]["id"], reply["record_only"], reply["retained"]["array_name"]) == (volume["id"], False, name)
    assert (service.catalog.volumes(), content(tmp_path, name)) == ([], b"precious")
    assert run(service, "delete", retain=True) == {"old": None, "record_only": False, "retained": None}
    back = run_command(service, reply["retained"]["take_over"])
    assert (back["name"], back["owner"], back["formatted"]) == ("data", "web1", True)
    assert content(tmp_path, f"volume-{back['id']}") == b"precious"


def test_d10_the_recorded_choice_holds_for_everyone_unless_overridden(service, volume, files, admin):
    run(service, "create", size=1, retain=True)
    assert service.call("delete", {"name": "data", "owner": "web1"}, admin)["retained"]
    assert len(files()) == 1
    run(service, "create", size=1, retain=True)
    assert run(service, "delete", retain=False)["retained"] is None
    assert files() == [f"volume-{volume['id']}"]


def test_d4_d5_d9_the_same_is_refused_as_for_a_deletion(service, volume):
    run(service, "connect", connector=CONNECTOR)
    with pytest.raises(FailedPreconditionError, match="connected to web1"):
        run(service, "delete", retain=True)
    run(service, "disconnect")
    run(service, "snapshot_create", "cut", volume="data")
    with pytest.raises(FailedPreconditionError, match="'cut'"):
        run(service, "delete", retain=True)
    run(service, "snapshot_delete", "cut")
    run(service, "update", protected=True)
    with pytest.raises(FailedPreconditionError, match="protected"):
        run(service, "delete", retain=True)
    assert service.volume("web1", "data").state == model.AVAILABLE
    run(service, "update", protected=False)
    for wrong in ("yes", 1):
        with pytest.raises(InvalidArgumentError, match="retain"):
            run(service, "delete", retain=wrong)
    assert service.volume("web1", "data").state == model.AVAILABLE


def test_a_shared_volume_is_retained_on_the_master(service, admin, files):
    service.call("create", {"name": "media", "owner": "shared", "size": 1, "retain": True}, admin)
    with pytest.raises(PermissionDeniedError):
        run(service, "delete", "media", owner="shared", retain=True)
    assert service.call("delete", {"name": "media", "owner": "shared"}, admin)["retained"]
    assert len(files()) == 1


@pytest.mark.parametrize(
    ("rule", "may"),
    [({}, True), ({"max_gib": 5}, False), ({"max_volumes": 1}, False), ({"max_gib": 5, "retain": True}, True), ({"retain": False}, False)],
)
def test_d10_a_minion_with_a_quota_does_not_get_around_it(opts, files, admin, rule, may):
    opts["storage"]["policy"] = {"web*": rule}
    service = Service(opts)
    assert run(service, "create", size=1, retain=True)["volume"]["retain"] is True
    assert service.inventory(Caller("web1"))["retain"] is may
    if may:
        assert run(service, "delete")["retained"]
    else:
        with pytest.raises(PermissionDeniedError, match="salt-run storage.delete"):
            run(service, "delete")
        assert service.volume("web1", "data").state == model.AVAILABLE
        assert service.call("delete", {"name": "data", "owner": "web1"}, admin)["retained"], "the administrator may"
    assert len(files()) == 1
    service.close()


def test_the_policys_retain_must_be_a_boolean():
    with pytest.raises(InvalidArgumentError, match="storage:policy:web1:retain"):
        Policy.from_config({"web1": {"retain": "yes"}})


def test_g6_d10_a_backend_that_cannot_let_go_refuses(service, volume, monkeypatch):
    provider = service.core.provider("local")
    less = provider.capabilities() - {"manage"}
    monkeypatch.setattr(type(provider), "capabilities", lambda self: less)
    with pytest.raises(UnimplementedError, match="let go"):
        run(service, "delete", retain=True)
    assert service.volume("web1", "data").state == model.AVAILABLE


def test_d8_a_half_made_or_half_deleted_volume_has_nothing_to_retain():
    def stays(state, retain):
        return retains(
            Volume(id="1", owner="web1", name="data", backend="local", size=1, state=state, retain=True), retain, "web1", may=True
        )

    assert [stays(state, None) for state in (model.CREATING, model.ERROR, model.DELETING, model.AVAILABLE)] == [False, False, False, True]
    with pytest.raises(FailedPreconditionError, match="retain: False"):
        stays(model.DELETING, True)


def test_hostile_names_are_quoted_in_the_command(service, tmp_path):
    name = "it's $(touch owned); `id` \u202e"
    run(service, "create", name, size=1)
    reply = run(service, "delete", name, retain=True)
    assert run_command(service, reply["retained"]["take_over"])["name"] == name


def half_released(service):
    return service.catalog.update(service.volume("web1", "data"), state=model.RELEASING)


@pytest.mark.parametrize("retain", [None, True, False])
def test_a_release_that_was_cut_off_is_finished_by_any_deletion(service, volume, files, retain):
    half_released(service)
    reply = run(service, "delete", **({} if retain is None else {"retain": retain}))
    assert reply["retained"]["array_name"] == f"volume-{volume['id']}"
    assert (service.catalog.volumes(), len(files())) == ([], 1)


def test_a_released_volume_of_unknown_name_gets_another_command(service, volume, files):
    half_released(service)
    service.core.provider("local").unmanage_volume(model_volume(volume))
    reply = run(service, "delete")
    assert reply["retained"] == {"array_name": "", "take_over": "salt-run storage.manageable backend=local"}
    assert volume["id"] in [found["id"] for found in service.adoption.manageable()]


def model_volume(wire):
    from saltstorage.controller.operations.core import as_provider_volume

    return as_provider_volume(Volume.from_wire(wire))


def test_a_new_volume_of_the_same_name_is_another_volume(service, volume, files):
    half_released(service)
    made = run(service, "create", size=1)
    assert (made["old"], made["volume"]["id"] != volume["id"], len(files())) == (None, True, 2)


def test_a_release_that_was_cut_off_leaves_the_name_for_a_take_over(service, volume, tmp_path):
    half_released(service)
    back = service.adoption.manage(name="data", owner="web1", reference=f"volume-{volume['id']}")["volume"]
    assert content(tmp_path, f"volume-{back['id']}") == b"precious"
