"""The controller's operations on volumes; the tests' names have the rows of docs/semantics."""

import concurrent.futures

import pytest

from saltstorage import model
from saltstorage.errors import (
    AbortedError,
    AlreadyExistsError,
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    OutOfRangeError,
    PermissionDeniedError,
    ResourceExhaustedError,
)
from saltstorage.model import Snapshot, Volume

CONNECTOR = {"host": "web1", "ip": "192.0.2.1", "multipath": False}


def run(service, op, caller="web1", **args):
    if args.get("connector") is CONNECTOR:
        args["connector"] = {**CONNECTOR, "host": caller}
    return service.execute(op, args, caller)


def test_p2_create_returns_the_size_delivered(service, files):
    reply = run(service, "create", name="data", size="1536 MiB")
    assert reply["old"] is None
    assert reply["volume"]["size"] == 2
    assert reply["volume"]["state"] == model.AVAILABLE
    assert files() == [f"volume-{reply['volume']['id']}"]


def test_p3_same_name_and_size_is_the_same_volume(service, files):
    first = run(service, "create", name="data", size=1)["volume"]
    second = run(service, "create", name="data", size=1)
    assert second["volume"]["id"] == first["id"]
    assert second["old"] == second["volume"]
    assert len(files()) == 1


def test_p4_larger_grows_smaller_is_refused_never_a_second(service, files):
    first = run(service, "create", name="data", size=1)["volume"]
    with pytest.raises(AlreadyExistsError) as caught:
        run(service, "create", name="data", size=2, resize=False)
    assert caught.value.details["size"] == [1, 2]
    grown = run(service, "create", name="data", size=2)
    assert (grown["old"]["size"], grown["volume"]["size"], grown["volume"]["id"]) == (1, 2, first["id"])
    with pytest.raises(OutOfRangeError):
        run(service, "create", name="data", size=1)
    assert len(files()) == 1


def test_p5_every_difference_is_named(service, opts, tmp_path):
    opts["storage"]["backends"]["other"] = {**opts["storage"]["backends"]["local"], "file_driver_path": str(tmp_path / "other")}
    opts["storage"]["default_backend"] = "local"
    from saltstorage.controller.service import Service

    service = Service(opts)
    run(service, "create", name="origin", size=1)
    run(service, "create", name="data", size=1)
    with pytest.raises(AlreadyExistsError) as caught:
        run(service, "create", name="data", size=1, backend="other", source={"volume": "origin"})
    assert set(caught.value.details) == {"backend", "source"}
    service.close()


def test_p6_p9_p10_copies_know_their_source(service):
    run(service, "create", name="origin", size=2)
    run(service, "snapshot_create", name="cut", volume="origin")
    with pytest.raises(OutOfRangeError):
        run(service, "create", name="copy", size=1, source={"volume": "origin"})
    clone = run(service, "create", name="clone", size=2, source={"volume": "origin"})["volume"]
    copy = run(service, "create", name="copy", size=3, source={"snapshot": "cut"})["volume"]
    assert clone["source"]["kind"] == "volume"
    assert copy["size"] == 3
    # A copy is formatted if its source is: it may hold a file system, which must stay.
    assert (clone["formatted"], copy["formatted"]) == (False, False)
    service.catalog.update(service.volume("web1", "origin"), formatted=True)
    for name, source in (("second clone", {"volume": "origin"}), ("second copy", {"snapshot": "cut"})):
        assert run(service, "create", name=name, size=3, source=source)["volume"]["formatted"] is True
    run(service, "snapshot_delete", name="cut")
    again = run(service, "create", name="copy", size=3, source={"snapshot": "cut"})
    assert again["volume"]["id"] == copy["id"]
    run(service, "snapshot_create", name="cut", volume="origin")
    with pytest.raises(AlreadyExistsError, match="source"):
        run(service, "create", name="copy", size=3, source={"snapshot": "cut"})


def test_p9_copy_of_a_snapshot_without_its_volume_counts_as_formatted():
    from saltstorage.controller.operations.sources import Source

    # The catalog no longer tells whether the snapshot holds data, so no file system is made on it.
    snapshot = Snapshot(id="1", owner="web1", name="cut", volume_id="gone", volume="origin", backend="files", size=1)
    assert Source(found=snapshot, volume=None).formatted is True


def test_p7_missing_source_creates_nothing(service, files):
    with pytest.raises(NotFoundError):
        run(service, "create", name="copy", size=1, source={"snapshot": "nothing"})
    assert files() == []
    assert service.catalog.volumes() == []


def test_p12_no_room_leaves_no_row(service, files):
    with pytest.raises(ResourceExhaustedError):
        run(service, "create", name="huge", size="4000 TiB")
    assert service.catalog.volumes() == []
    assert files() == []


@pytest.mark.parametrize("state", [model.CREATING, model.ERROR, model.DELETING])
def test_p13_a_half_made_volume_is_made_anew(service, files, state):
    half = Volume(id="6b3c7a2e-0000-4000-8000-000000000001", owner="web1", name="data", backend="local", size=1, state=state)
    service.catalog.add(half)
    reply = run(service, "create", name="data", size=1)
    assert reply["old"] is None
    assert reply["volume"]["id"] != half.id
    assert files() == [f"volume-{reply['volume']['id']}"]


def test_p14_one_identity_one_row(service):
    from saltstorage.errors import InternalError

    run(service, "create", name="data", size=1)
    with pytest.raises(InternalError):
        service.catalog.add(Volume(id="x", owner="web1", name="data", backend="local", size=1))


def test_r12_six_requests_at_once_make_one_volume(service, files):
    service.core.locks.timeout = 60  # all are to get their turn
    service.start()
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        replies = list(pool.map(lambda _: run(service, "create", name="data", size=1), range(6)))
    assert len({r["volume"]["id"] for r in replies}) == 1
    assert sum(r["old"] is None for r in replies) == 1
    assert len(files()) == 1


def test_d2_d3_delete_and_again(service, files):
    assert run(service, "delete", name="data") == {"old": None, "record_only": False, "retained": None}
    run(service, "create", name="data", size=1)
    reply = run(service, "delete", name="data")
    assert reply["old"]["name"] == "data"
    assert not reply["record_only"]
    assert files() == []
    assert run(service, "delete", name="data")["old"] is None


def test_d4_r15_connected_is_not_deleted(service, files):
    run(service, "create", name="data", size=1)
    run(service, "connect", name="data", connector=CONNECTOR)
    with pytest.raises(FailedPreconditionError, match="web1"):
        run(service, "delete", name="data")
    assert len(files()) == 1


def test_d5_a_volume_with_snapshots_is_not_deleted(service):
    run(service, "create", name="data", size=1)
    run(service, "snapshot_create", name="cut", volume="data")
    with pytest.raises(FailedPreconditionError, match="'cut'"):
        run(service, "delete", name="data")
    assert service.catalog.volume("web1", "data").state == model.AVAILABLE


def test_d6_only_the_record_of_a_volume_that_is_gone_on_the_backend_is_removed(service, tmp_path, files):
    run(service, "create", name="data", size=1)
    for name in files():
        (tmp_path / "volumes" / name).unlink()
    assert run(service, "delete", name="data")["record_only"]
    assert service.catalog.volumes() == []


def test_g4_the_loser_reads_which_operation_holds_the_lock(service, admin):
    run(service, "create", name="data", size=1)
    from saltstorage.controller.operations.core import Caller

    with service.core.held(Caller("db1"), "extension", ("web1", "data")), concurrent.futures.ThreadPoolExecutor(1) as pool:
        loser = pool.submit(run, service, "delete", name="data").exception()
    assert isinstance(loser, AbortedError)
    assert "extension of 'data', asked for by db1" in loser.message


def test_x3_x4_x9_a_volume_grows_and_never_shrinks(service):
    with pytest.raises(NotFoundError):
        run(service, "extend", name="data", size=2)
    run(service, "create", name="data", size=2)
    assert run(service, "extend", name="data", size=1)["volume"]["size"] == 2
    with pytest.raises(ResourceExhaustedError):
        run(service, "extend", name="data", size="4000 TiB")
    # X10: and it can be used as before.
    assert service.catalog.volume("web1", "data").state == model.AVAILABLE
    assert run(service, "extend", name="data", size=3)["volume"]["size"] == 3


def test_a_cut_off_extension_takes_the_size_that_the_backend_has(service):
    volume = service.catalog.volume_by_id(run(service, "create", name="data", size=2)["volume"]["id"])
    service.catalog.update(volume, state=model.EXTENDING, size=1)
    assert run(service, "create", name="data", size=1 + 1)["volume"]["size"] == 2


@pytest.mark.parametrize("size", [0, -1, "ten", 1.5, 10**9, True, None, "1.5GiB", "", [], "0", "-3"])
def test_g2_bad_sizes_name_the_field(service, files, size):
    with pytest.raises(InvalidArgumentError) as caught:
        run(service, "create", name="data", size=size)
    assert caught.value.field == "size"
    assert service.catalog.volumes() == []
    assert files() == []


@pytest.mark.parametrize("name", ["a/b", "a\nb", "a\x7f", "x" * 129, "é" * 65, ".", "..", "", None, 3, ["a"], "\u2028"])
def test_g3_bad_names_name_the_field(service, name):
    with pytest.raises(InvalidArgumentError) as caught:
        run(service, "create", name=name, size=1)
    assert caught.value.field == "name"
    assert service.catalog.volumes() == []


@pytest.mark.parametrize(
    "name", ["two words", "-f", "it's", 'say "x"', "{{ grains }}", "{a: b}", "💾", "é" * 64, "%s", "a\\b", "*", "$(id)"]
)
def test_g3_odd_names_work(service, name, files):
    run(service, "create", name=name, size=1)
    assert [v["name"] for v in run(service, "inventory")["volumes"]] == [name]
    run(service, "connect", name=name, connector=CONNECTOR)
    run(service, "disconnect", name=name)
    run(service, "delete", name=name)
    assert files() == []


def test_g2_an_unknown_operation_parameter_or_backend_is_refused(service):
    with pytest.raises(InvalidArgumentError, match="did you mean 'create'|no operation"):
        run(service, "creat", name="data")
    with pytest.raises(InvalidArgumentError) as caught:
        run(service, "create", name="data", size=1, sise=2)
    assert caught.value.field == "sise"
    with pytest.raises(InvalidArgumentError) as caught:
        run(service, "create", name="data", size=1, backend="nowhere")
    assert caught.value.field == "backend"
    with pytest.raises(InvalidArgumentError) as caught:
        run(service, "create", size=1)
    assert caught.value.field == "name"
    # The operations' own first parameter is not for minions.
    with pytest.raises(InvalidArgumentError):
        run(service, "create", name="data", size=1, caller=None)


def test_g7_a_minion_has_its_own_volumes_only(service):
    run(service, "create", name="data", size=1)
    with pytest.raises(PermissionDeniedError):
        run(service, "delete", caller="db1", name="data", owner="web1")
    with pytest.raises(PermissionDeniedError):
        run(service, "connect", caller="db1", name="data", owner="web1", connector=CONNECTOR)
    assert run(service, "inventory", caller="db1")["volumes"] == []
    with pytest.raises(NotFoundError):
        run(service, "connect", caller="db1", name="data", connector=CONNECTOR)
    with pytest.raises(PermissionDeniedError, match="rename"):
        run(service, "create", caller="shared", name="data", size=1)


def test_policy_is_enforced(opts):
    from saltstorage.controller.service import Service

    opts["storage"]["policy"] = {"web*": {"backends": ["local"], "max_volumes": 1, "max_gib": 3}, "db*": {"backends": ["gold*"]}}
    service = Service(opts)
    run(service, "create", name="a", size=2)
    with pytest.raises(ResourceExhaustedError, match="1 volumes"):
        run(service, "create", name="b", size=1)
    with pytest.raises(ResourceExhaustedError, match="3 GiB"):
        run(service, "create", name="a", size=4)
    assert service.catalog.volume("web1", "a").size == 2
    with pytest.raises(PermissionDeniedError):
        run(service, "create", caller="db1", name="a", size=1)
    with pytest.raises(PermissionDeniedError, match="policy"):
        run(service, "inventory", caller="mail1")
    service.close()


def test_a_backend_that_is_down_stops_only_itself(opts, tmp_path):
    from saltstorage.controller.service import Service

    (tmp_path / "file").write_text("")
    opts["storage"]["backends"]["broken"] = {**opts["storage"]["backends"]["local"], "file_driver_path": str(tmp_path / "file")}
    opts["storage"]["backends"]["typo"] = {**opts["storage"]["backends"]["local"], "file_driver_pat": "x"}
    opts["storage"]["default_backend"] = "local"
    service = Service(opts)
    run(service, "create", name="good", size=1)
    for name in ("broken", "typo"):
        with pytest.raises(FailedPreconditionError, match=f"{name}' is down"):
            run(service, "create", name="bad", size=1, backend=name)
    assert [v.name for v in service.catalog.volumes()] == ["good"]
    service.close()
