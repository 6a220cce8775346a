"""Labels, description, protection and types: changes, dry runs, and no change on the second run."""

from __future__ import annotations

import pytest

from tests import inprocess
from tests.unit.plans.minion import ok

pytestmark = pytest.mark.root

NOTES = {"labels": {"env": "prod"}, "description": "Orders", "protected": True}
NOTHING = {
    "labels": {"old": {}, "new": {"env": "prod"}},
    "description": {"old": "", "new": "Orders"},
    "protected": {"old": False, "new": True},
}


def settled(host, function, **given):
    """Assert that a second run changes nothing, nor would."""
    for test in (True, False):
        ret = host.state(function, test=test, **given)
        assert (ret["result"], ret["changes"]) == (True, {}), ret


@pytest.mark.parametrize("function", ["present", "connected", "mounted"])
def test_p11_changes_have_old_and_new_of_each(host, function):
    host.state(function, size=1)
    dry = host.state(function, size=1, test=True, **NOTES)
    assert (dry["result"], dry["changes"]) == (None, NOTHING), dry
    ret = host.state(function, size=1, **NOTES)
    assert (ret["result"], ret["changes"]) == (True, NOTHING), ret
    settled(host, function, size=1, **NOTES)
    settled(host, function, size=1)
    ret = host.state(function, size=2, description="", test=False)
    assert ret["changes"]["description"] == {"old": "Orders", "new": ""}
    assert ret["changes"]["size"] == {"old": 1, "new": 2}
    ret = host.state("present", size=2, protected=False)
    assert ret["changes"] == {"protected": {"old": True, "new": False}}


def test_created_with_notes(host):
    dry = host.state("present", size=1, test=True, **NOTES)
    ret = host.state("present", size=1, **NOTES)
    new = ret["changes"]["data"]["new"]
    assert {key: new[key] for key in NOTES} == NOTES
    assert dry["changes"]["data"]["new"].items() <= new.items()


@pytest.mark.parametrize("function", ["present", "connected", "mounted"])
def test_p11_one_wrong_value_changes_nothing(host, function):
    host.state("present", size=1)
    ret = host.state(function, size=2, labels={"env": 7}, description="New")
    assert (ret["result"], ret["changes"]) == (False, {}), ret
    assert ret["comment"].startswith("INVALID_ARGUMENT: labels:env must be a string")
    settled(host, "present", size=1, description="")


def test_notes_without_a_size_are_refused(host):
    host.state("present", size=1)
    ret = host.state("connected", labels={"a": "b"})
    assert ret["comment"].startswith("INVALID_ARGUMENT: size is missing")


def test_a_protected_volume_stays(host):
    host.state("present", size=1, protected=True)
    for test in (True, False):
        ret = host.state("absent", test=test)
        assert (ret["result"], ret["changes"]) == (False, {}), ret
        assert ret["comment"].startswith("FAILED_PRECONDITION: volume 'data' is protected")
    host.state("present", size=1, protected=False)
    ok(host.state("absent"))


def test_names_like_keys_of_changes(host):
    for name in ("labels", "protected"):
        ret = host.state("present", name, size=1)
        assert list(ret["changes"]) == [f"volume {name}"]
        ok(host.state("absent", name))


def test_p5_types(host):
    host.opts["storage"]["types"] = {"gold": {"extra_specs": {"tier": 1}}, "silver": {}}
    dry = host.state("present", size=1, type="gold", test=True)
    assert dry["changes"]["data"]["new"] == {"size": 1, "backend": "local", "type": "gold"}
    ret = host.state("present", size=1, type="gold")
    assert ret["changes"]["data"]["new"]["type"] == "gold"
    settled(host, "present", size=1, type="gold")
    settled(host, "present", size=1)
    for test in (True, False):
        ret = host.state("present", size=1, type="silver", test=test)
        assert ret["comment"] == "ALREADY_EXISTS: volume 'data' of web1 exists and differs: type is 'gold', asked for is 'silver'"
        ret = host.state("present", "other", size=1, type="bronze", test=test)
        assert ret["comment"].startswith("INVALID_ARGUMENT: type 'bronze' is not")


def test_a_shared_volume_is_changed_on_the_master(host):
    flow = host.flow
    flow.controller.call("inventory", {})
    service = host.context[inprocess.KEY]
    from saltstorage.controller.operations.core import Caller

    service.call("create", {"name": "data", "owner": "shared", "size": 1}, Caller())
    ret = host.state("present", size=1, owner="shared", labels={"a": "b"})
    assert ret["comment"].startswith("PERMISSION_DENIED: shared volume 'data' is changed on the master")


def test_d6_d3_only_the_record_was_left(host):
    host.state("present", size=1)
    for file in (host.root / "volumes").glob("volume-*"):
        file.unlink()
    ret = host.state("absent")
    assert (ret["result"], ret["changes"]["data"]["new"]) == (True, None), ret
    assert "only its record was removed" in ret["comment"]
    settled(host, "absent")
