"""The controller's operations on connections and snapshots."""

import concurrent.futures

import pytest

from saltstorage import model
from saltstorage.controller.operations.core import Caller, new_id
from saltstorage.controller.service import Service
from saltstorage.errors import (
    AlreadyExistsError,
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    PermissionDeniedError,
    ResourceExhaustedError,
)
from saltstorage.providers import Capability

CONNECTOR = {"host": "web1", "ip": "192.0.2.1", "multipath": False, "wwpns": ["50014380186b3f65"]}


def run(service, op, caller="web1", **args):
    if args.get("connector") is CONNECTOR:
        args["connector"] = {**CONNECTOR, "host": caller}
    return service.execute(op, args, caller)


@pytest.fixture
def volume(service):
    return run(service, "create", name="data", size=1)["volume"]


@pytest.fixture
def shared(opts):
    """A controller with a shared volume, which web* and db* may use."""
    opts["storage"]["policy"] = {"web*": {"shared": ["data"]}, "db*": {"shared": ["data"]}, "*": {}}
    # Callers wait for one another here, however slow the machine is.
    opts["storage"]["lock_timeout"] = 60
    service = Service(opts)
    service.call("create", {"name": "data", "size": 1, "owner": "shared"}, Caller())
    yield service
    service.close()


def test_c2_a_missing_volume(service):
    with pytest.raises(NotFoundError):
        run(service, "connect", name="data", connector=CONNECTOR)
    assert service.catalog.connections() == []


def test_c4_connecting_again_is_the_same_connection(service, volume):
    first = run(service, "connect", name="data", connector=CONNECTOR)
    second = run(service, "connect", name="data", connector=CONNECTOR)
    assert first["connection"]["id"] == second["connection"]["id"]
    assert (first["new"], second["new"]) == (True, False)
    assert first["connection_info"] == second["connection_info"]
    assert first["connection_info"]["driver_volume_type"] == "local"
    assert len(service.catalog.connections()) == 1


def test_one_request_creates_and_connects(service, files):
    reply = run(service, "connect", name="data", connector=CONNECTOR, create={"size": 1})
    assert reply["old"] is None
    assert reply["volume"]["size"] == 1
    grown = run(service, "connect", name="data", connector=CONNECTOR, create={"size": 2})
    assert (grown["old"]["size"], grown["volume"]["size"]) == (1, 2)
    assert len(files()) == 1


def test_c5_a_connection_keeps_its_mode(service, volume):
    run(service, "connect", name="data", connector=CONNECTOR, read_only=True)
    with pytest.raises(AlreadyExistsError):
        run(service, "connect", name="data", connector=CONNECTOR)


def test_c6_c15_one_host_at_a_time(shared, monkeypatch):
    # A backend whose driver cannot map a volume to two hosts.
    provider = shared.core.provider("local")
    monkeypatch.setattr(provider, "capabilities", lambda: frozenset({Capability.EXTEND}))

    def connect(minion):
        try:
            return run(shared, "connect", caller=minion, name="data", owner="shared", connector=CONNECTOR)
        except FailedPreconditionError as error:
            return error

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        results = list(pool.map(connect, ["web1", "db1"]))
    failed = [r for r in results if isinstance(r, FailedPreconditionError)]
    assert len(failed) == 1
    assert "attached to" in failed[0].message
    assert len(shared.catalog.connections()) == 1


def test_u9_unmapping_one_host_leaves_the_other(shared):
    for minion in ("web1", "db1"):
        run(shared, "connect", caller=minion, name="data", owner="shared", connector=CONNECTOR)
    run(shared, "disconnect", name="data", owner="shared")
    assert [c.host for c in shared.catalog.connections()] == ["db1"]


HOW = {
    "reads": {"read_only": True},
    "writes": {},
    "mounts to read": {"read_only": True, "mounts": True},
    "mounts": {"mounts": True},
}


@pytest.mark.parametrize(
    ("first", "second", "allowed"),
    [
        # The access modes of CSI: several readers, several writers that know of one another, or
        # one host with a file system.
        ("reads", "reads", True),
        ("reads", "writes", True),
        ("writes", "writes", True),
        ("mounts to read", "reads", True),
        ("mounts to read", "mounts to read", True),
        ("mounts to read", "writes", False),
        ("mounts to read", "mounts", False),
        ("mounts", "reads", False),
        ("mounts", "writes", False),
        ("mounts", "mounts", False),
    ],
)
def test_c12_a_file_system_is_written_by_one_host_alone(shared, first, second, allowed):
    """Row C12, pitfall R18: in any order, no host writes while another has a file system of the
    volume mounted.
    """
    for one, other in ((first, second), (second, first)):
        run(shared, "connect", caller="web1", name="data", owner="shared", connector=CONNECTOR, **HOW[one])
        if allowed:
            run(shared, "connect", caller="db1", name="data", owner="shared", connector=CONNECTOR, **HOW[other])
            run(shared, "disconnect", caller="db1", name="data", owner="shared")
        else:
            with pytest.raises(FailedPreconditionError, match="web1") as caught:
                run(shared, "connect", caller="db1", name="data", owner="shared", connector=CONNECTOR, **HOW[other])
            assert caught.value.details == {"hosts": ["web1"]}
        assert [c.host for c in shared.catalog.connections()] == ["web1"]
        run(shared, "disconnect", caller="web1", name="data", owner="shared")


def test_c12_the_right_to_mount_is_asked_for_and_kept_until_disconnected(shared):
    def connect(caller, **how):
        return run(shared, "connect", caller=caller, name="data", owner="shared", connector=CONNECTOR, **how)

    assert connect("web1")["new"]
    assert connect("web1", mounts=True)["new"]
    again = connect("web1")
    assert (again["new"], again["connection"]["mounts"]) == (False, True)
    with pytest.raises(FailedPreconditionError):
        connect("db1")
    run(shared, "disconnect", name="data", owner="shared")
    connect("web1")
    connect("db1")
    with pytest.raises(FailedPreconditionError, match="db1"):
        connect("web1", mounts=True)


def test_of_two_hosts_that_mount_at_once_one_does(shared):
    """Row C15, for a volume that several hosts may have."""

    def connect(minion):
        try:
            return run(shared, "connect", caller=minion, name="data", owner="shared", connector=CONNECTOR, mounts=True)
        except FailedPreconditionError as error:
            return error

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        results = list(pool.map(connect, ["web1", "db1"]))
    assert len([r for r in results if isinstance(r, FailedPreconditionError)]) == 1
    assert len(shared.catalog.connections()) == 1


def test_shared_volumes_are_changed_on_the_master(shared):
    with pytest.raises(PermissionDeniedError, match="salt-run"):
        run(shared, "delete", name="data", owner="shared")
    with pytest.raises(PermissionDeniedError, match="policy"):
        run(shared, "connect", caller="mail1", name="data", owner="shared", connector=CONNECTOR)
    assert [v["owner"] for v in run(shared, "inventory")["volumes"]] == ["shared"]
    assert run(shared, "inventory", caller="mail1")["volumes"] == []


def test_c9_a_failed_mapping_leaves_no_connection(service, volume, monkeypatch):
    provider = service.core.provider("local")

    def fail(*args, **kwargs):
        raise FailedPreconditionError("the driver refused")

    # The driver itself, not the provider: the real code undoes the mapping.
    monkeypatch.setattr(provider, "connect", fail)
    with pytest.raises(FailedPreconditionError, match="refused"):
        run(service, "connect", name="data", connector=CONNECTOR)
    assert service.catalog.connections() == []
    monkeypatch.undo()
    run(service, "connect", name="data", connector=CONNECTOR)


@pytest.mark.parametrize("state", [model.DELETING, model.ERROR, model.CREATING])
def test_c16_a_half_deleted_volume_is_not_connected(service, volume, state):
    service.catalog.update(service.catalog.volume("web1", "data"), state=state)
    with pytest.raises(FailedPreconditionError, match=state):
        run(service, "connect", name="data", connector=CONNECTOR)


def test_u2_u3_disconnecting_nothing(service, volume):
    assert run(service, "disconnect", name="data") == {"connection": None}
    assert run(service, "disconnect", name="never was") == {"connection": None}


def test_u10_a_dead_host_needs_fencing(service, volume):
    run(service, "connect", name="data", connector=CONNECTOR)
    args = {"name": "data", "owner": "web1", "host": "web1"}
    with pytest.raises(FailedPreconditionError, match="fenced"):
        service.call("disconnect", args, Caller())
    assert len(service.catalog.connections()) == 1
    assert service.call("disconnect", {**args, "fenced": True}, Caller())["connection"]["host"] == "web1"
    assert service.catalog.connections() == []


def fence(service):
    """Take the volume from its host, as if that were fenced, and return its id."""
    run(service, "connect", name="data", connector=CONNECTOR)
    service.call("disconnect", {"name": "data", "owner": "web1", "host": "web1", "fenced": True}, Caller())
    return service.catalog.volume("web1", "data").id


def test_r18_only_the_host_itself_says_that_nothing_stale_is_left(service, volume):
    volume_id = fence(service)
    for caller in ("db1", None):
        host = {"host": "web1", "owner": "web1", "fenced": True} if caller is None else {}
        service.call("disconnect", {"name": "data", "volume_id": volume_id, **host}, Caller(caller))
    with pytest.raises(PermissionDeniedError):
        run(service, "disconnect", caller="db1", name="data", owner="web1", volume_id=volume_id)
    with pytest.raises(PermissionDeniedError):
        run(service, "disconnect", caller="db1", name="data", host="web1", volume_id=volume_id)
    # A disconnection by name is not enough: the name may be another volume's by now.
    run(service, "disconnect", name="data")
    assert [fence.host for fence in service.catalog.fences()] == ["web1"]
    run(service, "disconnect", name="data", volume_id=volume_id)
    assert service.catalog.fences() == []


def test_r18_a_host_sees_its_fences_and_nothing_else_of_volumes_that_were_given_away(service, volume):
    volume_id = fence(service)
    service.transfers.give(owner="web1", name="data", new_owner="db1")
    run(service, "create", name="data", size=1)
    run(service, "connect", name="data", connector=CONNECTOR)
    seen = run(service, "inventory")
    assert seen["fenced"] == [[volume_id]]
    assert volume_id not in str({**seen, "fenced": []})
    assert run(service, "disconnect", name="data", volume_id=volume_id) == {"connection": None}
    assert service.catalog.fences() == []
    assert [c.volume_id for c in service.catalog.connections()] == [service.catalog.volume("web1", "data").id], "the new one stays"


def test_r18_a_host_that_has_tidied_up_is_unmapped_where_that_was_cut_off(service, volume):
    volume_id = fence(service)
    service.catalog.add(half_unmapped(volume_id))
    assert run(service, "disconnect", name="data", volume_id=volume_id)["connection"]["host"] == "web1"
    assert (service.catalog.fences(), service.catalog.connections()) == ([], [])


def half_unmapped(volume_id):
    what = {"owner": "web1", "volume": "data", "host": "web1", "size": 1, "connector": CONNECTOR, "read_only": False, "mounts": False}
    return model.Connection(id=new_id(), volume_id=volume_id, state=model.DISCONNECTING, created=1.0, **what)


def test_u5_no_host_is_not_all_hosts(service, volume):
    run(service, "connect", name="data", connector=CONNECTOR)
    for args in ({}, {"fenced": True}, {"fenced": True, "host": ""}, {"fenced": True, "host": ["web1"]}):
        with pytest.raises(InvalidArgumentError, match="host"):
            service.call("disconnect", {"name": "data", "owner": "web1", **args}, Caller())
    assert [c.host for c in service.catalog.connections()] == ["web1"]


def test_a_minion_disconnects_only_itself(service, volume):
    run(service, "connect", name="data", connector=CONNECTOR)
    with pytest.raises(PermissionDeniedError):
        run(service, "disconnect", name="data", host="db1")
    with pytest.raises(PermissionDeniedError):
        run(service, "disconnect", caller="db1", name="data", owner="web1", host="web1", fenced=True)
    assert len(service.catalog.connections()) == 1


def test_formatting_is_allowed_once_and_while_connected(service, volume):
    with pytest.raises(FailedPreconditionError):
        run(service, "mark_formatted", name="data")
    run(service, "connect", name="data", connector=CONNECTOR)
    assert run(service, "mark_formatted", name="data") == {"was": False}
    assert run(service, "mark_formatted", name="data") == {"was": True}


@pytest.mark.parametrize(
    "connector",
    [
        None,
        [],
        "web1",
        {1: 2},
        {"host": {"a": 1}},
        {"host": "x" * 2000},
        {"host": "a\nb"},
        {"wwpns": [["x"]]},
        {str(i): 1 for i in range(100)},
    ],
)
def test_a_hostile_connector_is_refused(service, volume, connector):
    with pytest.raises(InvalidArgumentError) as caught:
        run(service, "connect", name="data", connector=connector)
    assert caught.value.field.startswith("connector")


def test_the_connector_is_not_told_to_others(service, volume):
    reply = run(service, "connect", name="data", connector=CONNECTOR)
    assert "connector" not in reply["connection"]
    assert "50014380186b3f65" not in str(run(service, "inventory"))


def test_n2_n3_n4_n8_a_snapshot_is_taken_once_and_deleted_once(service, volume):
    with pytest.raises(NotFoundError):
        run(service, "snapshot_create", name="cut", volume="nothing")
    first = run(service, "snapshot_create", name="cut", volume="data")
    assert first["old"] is None
    assert run(service, "snapshot_create", name="cut", volume="data")["old"]["id"] == first["snapshot"]["id"]
    run(service, "create", name="other", size=1)
    with pytest.raises(AlreadyExistsError):
        run(service, "snapshot_create", name="cut", volume="other")
    assert run(service, "snapshot_delete", name="cut")["old"]["name"] == "cut"
    assert run(service, "snapshot_delete", name="cut")["old"] is None


def test_a_minion_cannot_pass_for_another_host(service, volume):
    with pytest.raises(PermissionDeniedError):
        service.execute("connect", {"name": "data", "connector": {"host": "db1", "initiator": "iqn.2026-01.org.example:web1"}}, "web1")
    assert service.catalog.connections() == []


def test_c16_a_connection_does_not_revive_a_volume_that_is_being_deleted(service, volume, files):
    service.catalog.update(service.catalog.volume("web1", "data"), state=model.DELETING)
    with pytest.raises(FailedPreconditionError, match="being deleted"):
        run(service, "connect", name="data", connector=CONNECTOR, create={"size": 1})
    assert files() == [f"volume-{volume['id']}"]


def test_a_cut_off_extension_is_settled_by_a_connection(service, volume):
    service.catalog.update(service.catalog.volume("web1", "data"), state=model.EXTENDING, size=7)
    assert run(service, "connect", name="data", connector=CONNECTOR)["volume"]["size"] == 1


def test_a_volume_that_the_policy_took_away_can_still_be_disconnected(opts, service, volume):
    run(service, "connect", name="data", connector=CONNECTOR)
    opts["storage"]["policy"] = {"db*": {}}
    later = Service(opts)
    assert run(later, "disconnect", name="data")["connection"]["host"] == "web1"
    later.close()


def test_snapshots_count_in_the_quota(opts):
    opts["storage"]["policy"] = {"web*": {"max_gib": 2}}
    service = Service(opts)
    run(service, "create", name="data", size=1)
    run(service, "snapshot_create", name="one", volume="data")
    with pytest.raises(ResourceExhaustedError):
        run(service, "snapshot_create", name="two", volume="data")
    assert [s.name for s in service.catalog.snapshots()] == ["one"]
    service.close()


def test_two_extensions_at_once_do_not_pass_the_quota(opts):
    opts["storage"]["policy"] = {"web*": {"max_gib": 3}}
    service = Service(opts)
    service.core.locks.timeout = 60  # both are to get their turn
    for name in ("a", "b"):
        run(service, "create", name=name, size=1)

    def extend(name):
        try:
            return run(service, "extend", name=name, size=2)
        except ResourceExhaustedError as error:
            return error

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        results = list(pool.map(extend, "ab"))
    assert sum(isinstance(r, ResourceExhaustedError) for r in results) == 1
    assert service.catalog.usage("web1") == (2, 3)
    service.close()


def test_names_that_never_were_leave_no_lock_files(service, tmp_path, volume):
    before = len(list((tmp_path / "state" / "locks").iterdir()))
    for n in range(5):
        run(service, "disconnect", name=f"never {n}")
        run(service, "delete", name=f"never {n}")
    assert len(list((tmp_path / "state" / "locks").iterdir())) == before
