"""``storage_snapshot.*`` and its rows of the table, with the real controller and file driver."""

from __future__ import annotations

import concurrent.futures
import os
import threading
import time

import pytest
from cinder import exception

from saltstorage import model
from saltstorage.controller.operations.core import Caller
from saltstorage.errors import DeadlineExceededError, FailedPreconditionError, NotFoundError, UnimplementedError
from saltstorage.flow import snapshots
from saltstorage.flow.inventory import Inventory
from saltstorage.plans import snapshot_rotated
from tests.unit.plans.minion import check_result

BOTH = pytest.mark.parametrize("test", [True, False])


def refused(result, code, *words):
    assert result["result"] is False, result
    assert result["changes"] == {}
    assert result["comment"].startswith(f"{code}: "), result
    assert [word for word in words if word not in result["comment"]] == []


def nothing(result):
    assert (result["result"], result["changes"]) == (True, {}), result


def done(result):
    assert result["result"] is True, result
    assert result["changes"], result
    return result


def fail(*args):
    raise exception.VolumeBackendAPIException(data="the array said no")


@pytest.fixture
def volume(host):
    done(host.state("present", size=1))
    return host


def files(host):
    folder = host.opts["storage"]["backends"]["local"]["file_driver_path"]
    return sorted(name.split("-")[0] for name in os.listdir(folder))


# present


@BOTH
@pytest.mark.parametrize(
    ("name", "given", "field"),
    [
        ("", {}, "name"),
        ("a/b", {}, "name"),
        ("cut", {"volume": None}, "volume"),
        ("cut", {"volume": 7}, "volume"),
        ("cut", {"freeze": "yes"}, "freeze"),
        ("cut", {"timeout": 0}, "timeout"),
        ("cut", {"timeout": "soon"}, "timeout"),
        ("cut", {"timeout": "2d"}, "timeout"),
    ],
)
def test_n1_bad_input_names_the_field(volume, name, given, field, test):
    refused(volume.state("snapshot_present", name, test=test, **given), "INVALID_ARGUMENT", field)
    assert files(volume) == ["volume"]


def test_n2_taken_once(volume):
    planned = volume.state("snapshot_present", "cut", test=True)
    assert planned["result"] is None, planned
    assert set(planned["changes"]) == {"cut"}
    assert files(volume) == ["volume"]
    first = done(volume.state("snapshot_present", "cut"))
    snapshot_id = first["changes"]["cut"]["new"]["id"]
    again = volume.state("snapshot_present", "cut")
    nothing(again)
    assert snapshot_id in again["comment"]
    nothing(volume.state("snapshot_present", "cut", test=True))
    assert files(volume) == ["snapshot", "volume"]


@BOTH
def test_n3_the_name_is_of_another_volume(volume, test):
    done(volume.state("present", "other", size=1))
    done(volume.state("snapshot_present", "cut"))
    refused(volume.state("snapshot_present", "cut", volume="other", test=test), "ALREADY_EXISTS", "'data'")


@BOTH
def test_n4_no_such_volume(volume, test):
    refused(volume.state("snapshot_present", "cut", volume="none", test=test), "NOT_FOUND", "none")


class Impatient:
    """A controller behind a bus: the client stops waiting after a time, and the operation goes on.

    :ivar begun: the event from which the time counts.
    """

    def __init__(self, controller):
        self.controller = controller
        self.pool = concurrent.futures.ThreadPoolExecutor(4)
        self.begun = None

    def call(self, op, args, timeout=None):
        asked = self.pool.submit(self.controller.call, op, args)
        if timeout is not None and self.begun is not None:
            assert self.begun.wait(30)
        try:
            return asked.result(timeout)
        except concurrent.futures.TimeoutError:
            raise DeadlineExceededError(f"operation {op!r} did not end within {timeout} s") from None


@pytest.fixture
def impatient(faulty, monkeypatch):
    done(faulty.state("present", size=1))
    made = Impatient(faulty.flow.controller)
    monkeypatch.setattr("saltstorage.flow.flow.Flow.controller", made)
    yield faulty
    made.pool.shutdown()


@pytest.mark.slow
def test_n5_not_ready_in_time(impatient, hooks):
    go_on = threading.Event()
    begun = impatient.flow.controller.begun = threading.Event()
    hooks["create_snapshot"] = lambda: (begun.set(), go_on.wait(60))
    first = done(impatient.state("snapshot_present", "cut", timeout=1))
    assert "ready: False" in first["comment"]
    again = impatient.state("snapshot_present", "cut", timeout=1)
    nothing(again)
    assert "ready: False" in again["comment"]
    go_on.set()
    last = impatient.state("snapshot_present", "cut")
    nothing(last)
    assert first["changes"]["cut"]["new"]["id"] in last["comment"]


def test_n5_nothing_was_begun_in_time(impatient, hooks):
    """Another operation holds the volume, so that there is no snapshot to become ready."""
    go_on = threading.Event()
    hooks["extend_volume"] = lambda: go_on.wait(60)
    waiting = threading.Thread(target=impatient.state, args=("extended",), kwargs={"size": 2})
    waiting.start()
    deadline = time.monotonic() + 20
    while impatient.service.catalog.volume("web1", "data").state != model.EXTENDING and time.monotonic() < deadline:
        time.sleep(0.01)
    refused(impatient.state("snapshot_present", "cut", timeout=1), "DEADLINE_EXCEEDED")
    go_on.set()
    waiting.join()


def test_n6_no_space(faulty, hooks, monkeypatch):
    monkeypatch.setattr("saltstorage.flow.flow.RETRY_DELAYS", ())
    done(faulty.state("present", size=1))

    def full():
        raise exception.NoValidBackend(reason="full")

    for when in ("create_snapshot", "after create_snapshot"):
        hooks[when] = full
        refused(faulty.state("snapshot_present", "cut"), "RESOURCE_EXHAUSTED")
        hooks.clear()
        assert files(faulty) == ["volume"]
        assert faulty.flow.inventory().snapshot("web1", "cut") is None


def test_n7_a_failure_is_replaced(faulty, hooks):
    done(faulty.state("present", size=1))
    hooks.update({"after create_snapshot": fail, "delete_snapshot": fail})
    refused(faulty.state("snapshot_present", "cut"), "INTERNAL")
    # It could not even be cleaned up, and is known.
    left = faulty.flow.inventory().snapshot("web1", "cut")
    assert left.state == model.DELETING
    assert left.error
    refused(faulty.state("snapshot_present", "cut"), "INTERNAL")
    hooks.clear()
    new = done(faulty.state("snapshot_present", "cut"))["changes"]["cut"]["new"]
    assert new["id"] != left.id
    assert files(faulty) == ["snapshot", "volume"]


def test_n7_a_failure_can_be_deleted(faulty, hooks):
    done(faulty.state("present", size=1))
    hooks.update({"after create_snapshot": fail, "delete_snapshot": fail})
    refused(faulty.state("snapshot_present", "cut"), "INTERNAL")
    hooks.clear()
    done(faulty.state("snapshot_absent", "cut"))
    assert files(faulty) == ["volume"]


# absent


def test_n8_absent(volume):
    for test in (True, False):
        refused(volume.state("snapshot_absent", "", test=test), "INVALID_ARGUMENT")
        nothing(volume.state("snapshot_absent", "cut", test=test))
    done(volume.state("snapshot_present", "cut"))
    check_result(volume.state("snapshot_absent", "cut", test=True), None)
    assert files(volume) == ["snapshot", "volume"]
    assert done(volume.state("snapshot_absent", "cut"))["changes"]["cut"]["new"] is None
    nothing(volume.state("snapshot_absent", "cut"))
    assert files(volume) == ["volume"]


def test_n9_in_use_names_the_dependants(faulty, hooks):
    """On some backends a volume depends on the snapshot that it was made of."""
    done(faulty.state("present", size=1))
    done(faulty.state("snapshot_present", "cut"))
    done(faulty.state("present", "copy", size=1, source={"snapshot": "cut"}))

    def busy():
        raise exception.SnapshotIsBusy(snapshot_name="cut")

    hooks["delete_snapshot"] = busy
    refused(faulty.state("snapshot_absent", "cut"), "FAILED_PRECONDITION", "'copy'")
    assert faulty.flow.inventory().snapshot("web1", "cut").state == model.AVAILABLE
    hooks.clear()
    done(faulty.state("snapshot_absent", "cut"))


# rotated


def series(host, name="daily"):
    found = [s for s in host.service.catalog.snapshots(owner="web1") if s.series == name]
    return [s.name for s in sorted(found, key=lambda s: s.created)]


def age(host, seconds):
    """Let all snapshots be older."""
    catalog = host.service.catalog
    for snapshot in catalog.snapshots():
        catalog.update(snapshot, created=snapshot.created - seconds)


def aged(host, count, **given):
    """Take snapshots of a series, a day apart."""
    names = []
    for number in range(count):
        if number:
            age(host, 86400)
        result = done(host.state("snapshot_rotated", "daily", **given))
        [new] = [key for key, value in result["changes"].items() if value["old"] is None]
        # Their names have seconds; days went by.
        [snapshot] = [s for s in host.service.catalog.snapshots() if s.name == new]
        host.service.catalog.update(snapshot, name=f"{new}-{number}")
        names.append(f"{new}-{number}")
    return names


@BOTH
@pytest.mark.parametrize(
    ("name", "given", "field"),
    [
        ("n" * 112, {}, "name"),
        ("daily", {"volume": None}, "volume"),
        ("daily", {"keep": -1}, "keep"),
        ("daily", {"keep": "7"}, "keep"),
        ("daily", {"keep": True}, "keep"),
        ("daily", {"every": "never"}, "every"),
        ("daily", {"every": 0}, "every"),
        ("daily", {"every": float("nan")}, "every"),
    ],
)
def test_rotated_bad_input_names_the_field(volume, name, given, field, test):
    refused(volume.state("snapshot_rotated", name, test=test, **given), "INVALID_ARGUMENT", field)
    assert files(volume) == ["volume"]


def test_rotated_takes_one_when_the_newest_is_too_old(volume):
    check_result(volume.state("snapshot_rotated", "daily", test=True), None)
    assert series(volume) == []
    done(volume.state("snapshot_rotated", "daily"))
    [first] = series(volume)
    assert first.startswith("daily-2")
    nothing(volume.state("snapshot_rotated", "daily"))
    nothing(volume.state("snapshot_rotated", "daily", test=True))
    age(volume, 23 * 3600)
    nothing(volume.state("snapshot_rotated", "daily"))
    nothing(volume.state("snapshot_rotated", "daily", every="24h"))
    # A daily run is a second early.
    age(volume, 3599)
    check_result(volume.state("snapshot_rotated", "daily", test=True), None)


def test_rotated_keeps_the_last_and_no_others(volume):
    # Two that look as if they were of the series, and one of another series.
    done(volume.state("snapshot_present", "daily-20200101T000000Z"))
    done(volume.state("snapshot_rotated", "weekly"))
    done(volume.state("present", "other", size=1))
    volume.service.call("snapshot_create", {"name": "x", "volume": "other", "owner": "web1", "series": "daily"}, Caller())
    names = aged(volume, 5, keep=3)
    assert series(volume)[-3:] == names[-3:]
    left = {s.name for s in volume.service.catalog.snapshots()}
    assert {"daily-20200101T000000Z", "x", *names[-3:]} < left
    assert len(left) == 6
    nothing(volume.state("snapshot_rotated", "daily", keep=3))
    fewer = volume.state("snapshot_rotated", "daily", keep=1, test=True)
    assert set(fewer["changes"]) == set(names[-3:-1])
    done(volume.state("snapshot_rotated", "daily", keep=1))
    assert [n for n in series(volume) if n != "x"] == names[-1:]
    nothing(volume.state("snapshot_rotated", "daily", keep=1))
    done(volume.state("snapshot_rotated", "daily", keep=0))
    nothing(volume.state("snapshot_rotated", "daily", keep=0))
    assert [n for n in series(volume) if n != "x"] == []


def test_rotated_to_none_of_a_protected_volume(volume):
    """The deletion of the volume, which comes next in pillar, would be refused."""
    done(volume.state("snapshot_rotated", "daily"))
    volume.service.call("update", {"name": "data", "owner": "web1", "protected": True}, Caller())
    refused(volume.state("snapshot_rotated", "daily", keep=0), "FAILED_PRECONDITION", "protected")
    assert len(series(volume)) == 1


def test_rotated_of_a_volume_that_is_gone(volume):
    nothing(volume.state("snapshot_rotated", "daily", volume="gone", keep=0))
    refused(volume.state("snapshot_rotated", "daily", volume="gone"), "NOT_FOUND")


def test_rotated_skips_snapshots_in_use(faulty, hooks):
    done(faulty.state("present", size=1))
    names = aged(faulty, 2)
    done(faulty.state("present", "copy", size=1, source={"snapshot": names[0]}))

    def busy():
        raise exception.SnapshotIsBusy(snapshot_name="x")

    hooks["delete_snapshot"] = busy
    result = faulty.state("snapshot_rotated", "daily", keep=1)
    nothing(result)
    assert "in use" in result["comment"]
    assert names[0] in result["comment"]
    hooks["delete_snapshot"] = fail
    refused(faulty.state("snapshot_rotated", "daily", keep=1), "INTERNAL", names[0])
    hooks.clear()
    assert set(done(faulty.state("snapshot_rotated", "daily", keep=1))["changes"]) == {names[0]}


def test_rotated_deletes_nothing_when_none_can_be_taken(faulty, hooks):
    done(faulty.state("present", size=1))
    names = aged(faulty, 2, keep=2)
    age(faulty, 86400)
    hooks["create_snapshot"] = fail
    refused(faulty.state("snapshot_rotated", "daily", keep=1), "INTERNAL")
    assert series(faulty) == names


def test_n5_rotated_keeps_the_old_ones_until_the_new_one_is_there(impatient, hooks):
    names = aged(impatient, 2, keep=2)
    age(impatient, 86400)
    go_on, fails = threading.Event(), [True]
    begun = impatient.flow.controller.begun = threading.Event()

    def slow():
        begun.set()
        go_on.wait(60)
        if fails:
            fail()

    hooks["create_snapshot"] = slow
    first = done(impatient.state("snapshot_rotated", "daily", keep=2, timeout=1))
    assert "ready: False" in first["comment"]
    assert "old ones are kept" in first["comment"]
    # To the next apply it is not there either.
    nothing(impatient.state("snapshot_rotated", "daily", keep=2, timeout=1))
    assert series(impatient)[:2] == names
    go_on.set()
    deadline = time.monotonic() + 20
    while len(series(impatient)) > 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert series(impatient) == names, "the new one failed, and none of the old ones is missing"
    fails.clear()
    assert set(done(impatient.state("snapshot_rotated", "daily", keep=2))["changes"]) > {names[0]}
    assert series(impatient)[0] == names[1]
    assert len(series(impatient)) == 2


def test_n5_rotated_deletes_the_old_ones_once_the_new_one_is_there(impatient, hooks):
    names = aged(impatient, 1, keep=1)
    age(impatient, 86400)
    go_on = threading.Event()
    begun = impatient.flow.controller.begun = threading.Event()
    hooks["create_snapshot"] = lambda: (begun.set(), go_on.wait(60))
    result = done(impatient.state("snapshot_rotated", "daily", keep=1, timeout=1))
    [new] = result["changes"]
    assert "ready: False" in result["comment"]
    nothing(impatient.state("snapshot_rotated", "daily", keep=1))
    go_on.set()
    deadline = time.monotonic() + 20
    while impatient.service.catalog.snapshot("web1", new).state != model.AVAILABLE and time.monotonic() < deadline:
        time.sleep(0.01)
    assert set(done(impatient.state("snapshot_rotated", "daily", keep=1))["changes"]) == set(names)
    assert series(impatient) == [new]


@pytest.fixture
def other(volume, monkeypatch):
    """A second volume, and a controller whose clock stands still."""
    done(volume.state("present", "other", size=1))
    monkeypatch.setattr(Inventory, "now", lambda inventory: 1769904000.0)
    return volume


def test_rotated_two_volumes_in_one_second(other):
    """Their series have one name, and each keeps what is its own."""
    for at in ("00", "02"):
        for second, name in enumerate(("data", "other")):
            [new] = [n for n, c in done(other.state("snapshot_rotated", "daily", volume=name, keep=2))["changes"].items() if c["new"]]
            assert new == f"daily-20260201T0000{int(at) + second:02}Z"
        age(other, 2_000_000_000)
    found = other.service.catalog.snapshots(owner="web1")
    assert sorted(s.volume for s in found) == ["data", "data", "other", "other"]
    done(other.state("snapshot_rotated", "daily", keep=0))
    assert {s.volume for s in other.service.catalog.snapshots(owner="web1")} == {"other"}


def test_rotated_two_volumes_by_two_jobs_at_once(other, monkeypatch):
    """Each job chose the name before the other one had taken it."""
    real, asked = snapshot_rotated._free, []

    def early(inventory, *args):
        asked.append(inventory)
        return "daily-20260201T000000Z" if len(asked) <= 2 else real(inventory, *args)

    monkeypatch.setattr(snapshot_rotated, "_free", early)
    for name in ("data", "other"):
        done(other.state("snapshot_rotated", "daily", volume=name))
    found = {s.volume: s.name for s in other.service.catalog.snapshots(owner="web1")}
    assert found == {"data": "daily-20260201T000000Z", "other": "daily-20260201T000001Z"}


# Setting back


@pytest.mark.root
def test_revert_sets_the_volume_back(faulty):
    from pathlib import Path

    done(faulty.mounted())
    Path(faulty.mount_point, "file").write_text("before")
    assert os.system(f"sync -f '{faulty.mount_point}'") == 0  # noqa: S605
    done(faulty.state("snapshot_present", "cut"))
    Path(faulty.mount_point, "file").write_text("after")
    with pytest.raises(FailedPreconditionError, match="web1"):
        snapshots.revert(faulty.flow, "cut", confirm=True)
    done(faulty.state("disconnected"))
    with pytest.raises(FailedPreconditionError, match="confirm=True"):
        snapshots.revert(faulty.flow, "cut", confirm=False)
    with pytest.raises(NotFoundError):
        snapshots.revert(faulty.flow, "none", confirm=True)
    volume, snapshot = snapshots.revert(faulty.flow, "cut", confirm=True)
    assert (volume.size, volume.state, snapshot.state) == (1, model.AVAILABLE, model.AVAILABLE)
    done(faulty.mounted())
    assert Path(faulty.mount_point, "file").read_text() == "before"


def test_revert_only_to_the_latest(volume):
    done(volume.state("snapshot_present", "one"))
    done(volume.state("snapshot_present", "two"))
    with pytest.raises(FailedPreconditionError, match="'two'"):
        snapshots.revert(volume.flow, "one", confirm=True)
    done(volume.state("snapshot_absent", "two"))
    snapshots.revert(volume.flow, "one", confirm=True)


def test_revert_of_a_volume_that_has_grown(volume):
    """Ceph would give it its former size, against the records."""
    done(volume.state("snapshot_present", "one"))
    done(volume.state("extended", size=2))
    with pytest.raises(FailedPreconditionError, match=r"has 2 GiB by now, and had 1 .*size: 2GiB"):
        snapshots.revert(volume.flow, "one", confirm=True)
    assert volume.service.catalog.volume("web1", "data").state == model.AVAILABLE
    assert volume.service.catalog.snapshot("web1", "one").state == model.AVAILABLE


def test_revert_where_the_driver_cannot(hosts, hooks):
    host = hosts(driver="tests.unit.plans.faulty_driver.OfflineDriver")
    done(host.state("present", size=1))
    done(host.state("snapshot_present", "cut"))
    with pytest.raises(UnimplementedError):
        snapshots.revert(host.flow, "cut", confirm=True)
    assert host.service.catalog.volume("web1", "data").state == model.AVAILABLE


def test_revert_refused_changes_nothing_and_failed_is_repeated(faulty, hooks):
    done(faulty.state("present", size=1))
    done(faulty.state("snapshot_present", "cut"))

    def busy():
        raise exception.VolumeIsBusy(volume_name="data")

    hooks["revert_to_snapshot"] = busy
    with pytest.raises(FailedPreconditionError):
        snapshots.revert(faulty.flow, "cut", confirm=True)
    catalog = faulty.service.catalog
    assert catalog.volume("web1", "data").state == catalog.snapshot("web1", "cut").state == model.AVAILABLE

    hooks["revert_to_snapshot"] = fail
    with pytest.raises(Exception, match="array said no"):
        snapshots.revert(faulty.flow, "cut", confirm=True)
    # Half of it may be done: nobody may use it so.
    for test in (True, False):
        for state, given in (("present", {"size": 1}), ("connected", {"size": 1}), ("extended", {"size": 2}), ("absent", {})):
            refused(faulty.state(state, test=test, **given), "FAILED_PRECONDITION")
        refused(faulty.state("snapshot_present", "other", test=test), "FAILED_PRECONDITION")
    refused(faulty.state("snapshot_absent", "cut"), "FAILED_PRECONDITION", "set back")
    hooks["revert_to_snapshot"] = busy
    with pytest.raises(FailedPreconditionError):
        snapshots.revert(faulty.flow, "cut", confirm=True)
    assert catalog.volume("web1", "data").state == model.REVERTING, "a refusal now says nothing of what was done before"
    hooks.clear()
    volume, _ = snapshots.revert(faulty.flow, "cut", confirm=True)
    assert (volume.state, volume.error) == (model.AVAILABLE, "")
    nothing(faulty.state("snapshot_present", "cut"))
    nothing(faulty.state("present", size=1))
