"""Volumes whose creation or deletion failed, or still runs: rows P13, P16 and D6 to D8, with
faults in the real driver.
"""

from __future__ import annotations

import concurrent.futures
import threading

import pytest

from saltstorage import model
from saltstorage.errors import AbortedError, FailedPreconditionError, NotFoundError, StorageError

pytestmark = pytest.mark.slow

CONNECTOR = {"host": "web1", "ip": "192.0.2.1", "multipath": False}


def run(service, op, **args):
    return service.execute(op, {"name": "data", **args}, "web1")


@pytest.fixture
def driver(service):
    """The loaded Cinder driver of the backend."""
    return service.core.provider("local").driver


def failing(monkeypatch, driver, name, *, after=False):
    """Make a method of the driver fail, before or after it has done its work."""
    from cinder import exception

    original = getattr(driver, name)

    def fail(*args, **kwargs):
        if after:
            original(*args, **kwargs)
        raise exception.VolumeBackendAPIException(data="the array is on fire")

    monkeypatch.setattr(driver, name, fail)


def test_p13_a_failed_creation_leaves_nothing(service, driver, monkeypatch, files):
    with monkeypatch.context() as patch:
        failing(patch, driver, "create_volume", after=True)
        with pytest.raises(StorageError, match="on fire"):
            run(service, "create", size=1)
    assert service.catalog.volumes() == []
    assert files() == []
    assert run(service, "create", size=1)["old"] is None


def test_p13_r13_a_volume_that_cannot_be_cleaned_up_is_known_and_never_taken_for_success(service, driver, monkeypatch, files):
    with monkeypatch.context() as patch:
        failing(patch, driver, "create_volume", after=True)
        failing(patch, driver, "delete_volume")
        for _ in range(2):
            # The second attempt cannot clean up either, so it creates nothing beside the first.
            with pytest.raises(StorageError, match="on fire"):
                run(service, "create", size=1)
            assert len(files()) == 1
        for attempt in ({}, {"create": {"size": 1}}):
            with pytest.raises(StorageError):
                run(service, "connect", connector=CONNECTOR, **attempt)
        kept = service.volume("web1", "data")
        assert kept.state in (model.ERROR, model.DELETING)
        assert "on fire" in kept.error
    volume = run(service, "create", size=1)["volume"]
    assert (volume["state"], volume["error"]) == (model.AVAILABLE, "")
    assert files() == [f"volume-{volume['id']}"]


def test_p13_a_volume_that_could_not_be_cleaned_up_can_be_deleted(service, driver, monkeypatch, files):
    with monkeypatch.context() as patch:
        failing(patch, driver, "create_volume", after=True)
        failing(patch, driver, "delete_volume")
        with pytest.raises(StorageError):
            run(service, "create", size=1)
    assert run(service, "delete")["old"]["state"] == model.ERROR
    assert (service.catalog.volumes(), files()) == ([], [])


@pytest.mark.parametrize(("op", "method", "args"), [("create", "create_volume", {"size": 1}), ("extend", "extend_volume", {"size": 2})])
def test_d7_and_p13_while_it_is_being_made_or_grown(service, driver, monkeypatch, files, op, method, args):
    if op == "extend":
        run(service, "create", size=1)
    began, end = threading.Event(), threading.Event()
    original = getattr(driver, method)

    def slow(*given):
        began.set()
        assert end.wait(30)
        return original(*given)

    monkeypatch.setattr(driver, method, slow)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        first = pool.submit(run, service, op, **args)
        assert began.wait(30)
        try:
            assert service.volume("web1", "data").state in (model.CREATING, model.EXTENDING)
            for other in ({"op": "delete"}, {"op": "create", "size": 2}):
                with pytest.raises(AbortedError):
                    run(service, **other)
        finally:
            end.set()
        assert first.result()["volume"]["state"] == model.AVAILABLE
    assert len(files()) == 1
    assert run(service, "delete")["old"]["name"] == "data"


@pytest.mark.parametrize("after", [False, True])
def test_d8_a_failed_deletion_is_tried_again(service, driver, monkeypatch, files, after):
    first = run(service, "create", size=1)["volume"]
    with monkeypatch.context() as patch:
        failing(patch, driver, "delete_volume", after=after)
        # With the volume itself gone, a second attempt succeeds, however the driver fails then.
        for _ in range(1 if after else 2):
            with pytest.raises(StorageError, match="on fire"):
                run(service, "delete")
            kept = service.volume("web1", "data")
            assert (kept.id, kept.state) == (first["id"], model.DELETING)
            assert "on fire" in kept.error
        # C16: it is not connected meanwhile.
        with pytest.raises(FailedPreconditionError, match="deleting"):
            run(service, "connect", connector=CONNECTOR)
        with pytest.raises(FailedPreconditionError, match="deleted"):
            run(service, "connect", connector=CONNECTOR, create={"size": 1})
    # Row D6 too: the driver may have deleted all of it.
    assert run(service, "delete")["record_only"] is after
    assert (service.catalog.volumes(), files()) == ([], [])
    assert run(service, "delete")["old"] is None


def test_d8_after_a_refusal_by_the_array_the_volume_is_as_before(service, driver, monkeypatch):
    from cinder import exception

    before = run(service, "create", size=1, labels={"env": "prod"})["volume"]
    with monkeypatch.context() as patch:

        def busy(volume):
            raise exception.VolumeIsBusy(volume_name=volume.name)

        patch.setattr(driver, "delete_volume", busy)
        with pytest.raises(FailedPreconditionError):
            run(service, "delete")
    assert service.volume("web1", "data").to_wire() == before
    assert run(service, "connect", connector=CONNECTOR)["volume"] == before


def test_p16_a_volume_that_is_not_there_is_not_shown(service):
    with pytest.raises(NotFoundError, match="'data' of web1"):
        service.volume("web1", "data")
    assert service.catalog.volumes(owner="web1") == []
