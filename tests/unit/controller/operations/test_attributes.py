"""Labels, description, protection and types of volumes; the tests' names have the rows of
docs/semantics.
"""

import pytest

from saltstorage.controller.catalog.listing import Filter, find
from saltstorage.controller.service import Service
from saltstorage.errors import (
    AlreadyExistsError,
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    OutOfRangeError,
    PermissionDeniedError,
)

TYPES = {
    "gold": {"backend": "local", "extra_specs": {"provisioning:type": "thick", "tier": 1}, "qos_specs": {"maxIOPS": "500"}},
    "silver": {"extra_specs": {"tier": 2}},
    "plain": None,
}


def run(service, op, caller="web1", **args):
    return service.execute(op, args, caller)


@pytest.fixture
def typed(opts, tmp_path):
    """A controller with two backends, types, and a policy that lets db1 have the type gold only."""
    opts["storage"]["backends"]["other"] = {**opts["storage"]["backends"]["local"], "file_driver_path": str(tmp_path / "other")}
    opts["storage"].update(
        default_backend="other", types=TYPES, policy={"db1": {"types": ["gold"]}, "db2": {"backends": ["other"]}, "*": {}}
    )
    service = Service(opts)
    yield service
    service.close()


def test_p11_mutable_parameters_apply(service):
    first = run(service, "create", name="data", size=1, labels={"env": "test"})
    assert (first["volume"]["labels"], first["volume"]["description"], first["volume"]["protected"]) == ({"env": "test"}, "", False)
    second = run(service, "create", name="data", size=1, labels={"tier": "db"}, description="Orders", protected=True)
    assert second["old"] == first["volume"]
    assert second["volume"] == {**first["volume"], "labels": {"tier": "db"}, "description": "Orders", "protected": True}
    # An attribute that is not given stays.
    third = run(service, "create", name="data", size=2)
    assert third["volume"] == {**second["volume"], "size": 2}
    fourth = run(service, "create", name="data", size=2, labels={}, description="", protected=False)
    assert fourth["volume"] == {**first["volume"], "size": 2, "labels": {}}


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"labels": ["env"]}, "labels"),
        ({"labels": {"": "x"}}, "labels"),
        ({"labels": {"a=b": "x"}}, "labels"),
        ({"labels": {"a,b": "x"}}, "labels"),
        ({"labels": {" a": "x"}}, "labels"),
        ({"labels": {"ä" * 32: "x"}}, "labels"),
        ({"labels": {"env": 1}}, "labels:env"),
        ({"labels": {"env": "x" * 129}}, "labels:env"),
        ({"labels": {"env": "a\nb"}}, "labels:env"),
        ({"labels": {f"k{n}": "" for n in range(65)}}, "labels"),
        ({"description": 7}, "description"),
        ({"description": "x" * 256}, "description"),
        ({"description": "a\x1b[2J"}, "description"),
        ({"protected": "no"}, "protected"),
    ],
)
def test_p11_one_wrong_value_and_nothing_is_changed(service, wrong, field):
    before = run(service, "create", name="data", size=1, labels={"env": "prod"}, description="Orders")["volume"]
    good = {"labels": {"new": "1"}, "description": "New", "protected": True}
    for op, more in (("create", {"size": 2}), ("update", {})):
        with pytest.raises(InvalidArgumentError) as caught:
            run(service, op, name="data", **more, **{**good, **wrong})
        assert caught.value.field == field
    assert service.volume("web1", "data").to_wire() == before


def test_p11_nothing_is_written_when_the_volume_cannot_become_so(service):
    before = run(service, "create", name="data", size=2)["volume"]
    with pytest.raises(OutOfRangeError):
        run(service, "create", name="data", size=1, labels={"env": "prod"})
    assert service.volume("web1", "data").to_wire() == before


def test_p11_the_largest_values_are_kept(service):
    labels = {f"{n:02}" + "k" * 61: "ä" * 64 for n in range(64)}
    volume = run(service, "create", name="data", size=1, labels=labels, description="ü" * 127 + "x")["volume"]
    assert volume["labels"] == labels
    assert service.volume("web1", "data").to_wire() == volume


def test_p11_update_of_a_volume_that_is_not_there(service):
    with pytest.raises(NotFoundError):
        run(service, "update", name="data", labels={"env": "prod"})
    with pytest.raises(InvalidArgumentError):
        run(service, "update", name="data")


def test_p11_an_update_changes_the_given_attributes(service, admin):
    before = run(service, "create", name="data", size=1)["volume"]
    reply = service.call("update", {"name": "data", "owner": "web1", "labels": {"env": "prod"}}, admin)
    assert (reply["old"], reply["volume"]) == (before, {**before, "labels": {"env": "prod"}})
    with pytest.raises(PermissionDeniedError):
        run(service, "update", caller="db1", name="data", owner="web1", labels={})
    assert run(service, "connect", name="data", connector={"host": "web1"}, create={"size": 1, "labels": {"a": "b"}})["volume"][
        "labels"
    ] == {"a": "b"}


def test_d9_a_protected_volume_is_not_deleted(service, admin, files):
    run(service, "create", name="data", size=1, protected=True)
    for call in (
        lambda: run(service, "delete", name="data"),
        lambda: service.call("delete", {"name": "data", "owner": "web1"}, admin),
    ):
        with pytest.raises(FailedPreconditionError, match="protected: False"):
            call()
    assert service.volume("web1", "data").state == "available"
    assert len(files()) == 1
    run(service, "create", name="data", size=1, protected=False)
    assert run(service, "delete", name="data")["old"]["name"] == "data"
    assert files() == []


def test_labels_go_with_their_volume(service):
    for _ in range(2):
        run(service, "create", name="data", size=1, labels={"env": "prod"})
        assert len(find(service.catalog, Filter(labels={"env": "prod"}))) == 1
        run(service, "delete", name="data")
        assert find(service.catalog, Filter(labels={"env": "prod"})) == []


def test_p5_another_type_is_another_volume(typed):
    volume = run(typed, "create", name="data", size=1, type="gold")["volume"]
    assert (volume["type"], volume["backend"]) == ("gold", "local")
    assert run(typed, "create", name="data", size=1, type="gold")["volume"] == volume
    assert run(typed, "create", name="data", size=1)["volume"] == volume
    with pytest.raises(AlreadyExistsError) as caught:
        run(typed, "create", name="data", size=1, type="silver", labels={"a": "b"})
    assert caught.value.details == {"type": ["gold", "silver"]}
    assert typed.volume("web1", "data").to_wire() == volume


def test_a_type_chooses_the_backend_and_must_agree_with_it(typed):
    assert run(typed, "create", name="a", size=1, type="silver")["volume"]["backend"] == "other"
    assert run(typed, "create", name="b", size=1, type="silver", backend="local")["volume"]["backend"] == "local"
    with pytest.raises(InvalidArgumentError) as caught:
        run(typed, "create", name="c", size=1, type="gold", backend="other")
    assert caught.value.field == "backend"
    with pytest.raises(InvalidArgumentError, match="known: gold, silver, plain"):
        run(typed, "create", name="c", size=1, type="platinum")
    # Also when the volume exists.
    with pytest.raises(InvalidArgumentError):
        run(typed, "create", name="a", size=1, type="platinum")


def test_g7_the_policy_limits_types_and_the_backends_of_types(typed):
    assert run(typed, "create", caller="db1", name="a", size=1, type="gold")["volume"]["type"] == "gold"
    assert run(typed, "create", caller="db1", name="b", size=1)["volume"]["type"] is None
    with pytest.raises(PermissionDeniedError) as caught:
        run(typed, "create", caller="db1", name="c", size=1, type="silver")
    assert caught.value.field == "type"
    with pytest.raises(PermissionDeniedError, match="backend 'local'"):
        run(typed, "create", caller="db2", name="c", size=1, type="gold")
    assert set(run(typed, "inventory", caller="db1")["types"]) == {"gold"}


def test_g2_a_minion_cannot_pass_specs(typed):
    for more in ({"extra_specs": {"tier": "1"}}, {"qos_specs": {}}):
        with pytest.raises(InvalidArgumentError):
            run(typed, "create", name="a", size=1, **more)
        with pytest.raises(InvalidArgumentError):
            run(typed, "connect", name="a", connector={"host": "web1"}, create={"size": 1, **more})


def test_p6_a_copy_has_the_type_of_its_source(typed):
    run(typed, "create", name="data", size=1, type="gold")
    run(typed, "snapshot_create", name="snap", volume="data")
    assert run(typed, "create", name="a", size=1, source={"volume": "data"})["volume"]["type"] == "gold"
    assert run(typed, "create", name="b", size=1, source={"snapshot": "snap"})["volume"]["type"] == "gold"
    assert run(typed, "create", name="c", size=1, source={"volume": "data"}, type="silver", backend="local")["volume"]["type"] == "silver"


@pytest.mark.parametrize(
    ("types", "field"),
    [
        (["gold"], "storage:types"),
        ({"gold": {"backnd": "local"}}, "backnd"),
        ({"gold": {"backend": "no"}}, "storage:types:gold:backend"),
        ({"gold": {"extra_specs": ["x"]}}, "storage:types:gold:extra_specs"),
        ({"gold": {"extra_specs": {"a": True}}}, "storage:types:gold:extra_specs:a"),
        ({"gold": {"qos_specs": {"a": ["x"]}}}, "storage:types:gold:qos_specs:a"),
        ({"gold": {"qos_specs": {"a": "x" * 256}}}, "storage:types:gold:qos_specs:a"),
        ({"a/b": {}}, "storage:types:a/b"),
    ],
)
def test_wrong_types_in_the_configuration(opts, types, field):
    opts["storage"]["types"] = types
    with pytest.raises(InvalidArgumentError) as caught:
        Service(opts)
    assert caught.value.field == field


def test_a_protected_volume_can_be_set_back(service):
    """Protection prevents deletion; a return to a snapshot has guards of its own, and keeps the
    snapshot.
    """
    run(service, "create", name="data", size=1, protected=True)
    run(service, "snapshot_create", name="cut", volume="data")
    with pytest.raises(FailedPreconditionError, match="confirm=True"):
        run(service, "snapshot_revert", name="cut")
    assert run(service, "snapshot_revert", name="cut", confirm=True)["volume"]["protected"] is True
