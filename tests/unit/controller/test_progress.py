"""The progress of a long operation: its reports and their readers; nothing depends on either."""

from __future__ import annotations

import threading
import time

import pytest

from saltstorage import errors, progress
from saltstorage.controller.access.locks import volume_key
from saltstorage.progress import Heartbeat, Progress


class Told:
    """Collects the reports."""

    def __init__(self):
        self.all = []
        self.changed = threading.Condition()

    def __call__(self, data):
        with self.changed:
            self.all.append(data)
            self.changed.notify_all()

    def wait(self, step):
        """Wait until this step is reported."""
        with self.changed:
            assert self.changed.wait_for(lambda: step in [data["step"] for data in self.all], 10), self.all


@pytest.fixture
def told():
    return Told()


def test_the_progress_of_a_long_operation_is_reported_until_its_end(told):
    heartbeat = Heartbeat(told, after=0.05, every=0.05)
    with heartbeat.operation("migrate", "web1", {"name": "data", "secret": "MARKER"}):
        told.wait("")
        progress.step("copying", done=5, total=20)
        told.wait("copying")
    heartbeat.close()
    first, *_, before, last = told.all
    assert first["text"].startswith("migrate 'data' of web1 (")
    assert (before["step"], before["percent"], before["state"]) == ("copying", 25, "running")
    assert "copying, 25 %" in before["text"]
    assert (last["state"], last["id"]) == ("done", first["id"])
    assert "MARKER" not in str(told.all)


def test_a_failure_is_reported_as_a_failure(told):
    heartbeat = Heartbeat(told, after=0.01, every=10)

    def fail():
        with heartbeat.operation("create", None):
            told.wait("")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    heartbeat.close()
    assert [data["state"] for data in told.all] == ["running", "failed"]


def test_a_short_operation_is_not_reported_and_leaves_no_thread(told):
    heartbeat = Heartbeat(told, after=5)
    with heartbeat.operation("create", "web1"):
        pass
    heartbeat.close()
    assert told.all == []
    assert "storage-progress" not in [thread.name for thread in threading.enumerate()]


def test_a_listener_that_fails_stops_nothing():
    def tell(data):
        raise OSError

    heartbeat = Heartbeat(tell, after=0.01, every=0.01)
    with heartbeat.operation("create", "web1"):
        time.sleep(0.05)
    heartbeat.close()


def test_each_thread_has_its_own_operation(told):
    heartbeat = Heartbeat(told)

    def other():
        with heartbeat.operation("delete", "db1") as mine:
            progress.step("deleting")
            found.append(mine.text)

    found = []
    with heartbeat.operation("create", "web1") as mine:
        progress.step("creating")
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        assert mine.text == "create: creating"
    assert found == ["delete: deleting"]


def test_without_an_operation_nothing_happens():
    progress.step("copying", done=1, total=2)


@pytest.mark.parametrize(("done", "total", "percent"), [(None, None, None), (1, 0, None), (3, 2, 100), (-1, 2, 0), (1, 3, 33)])
def test_progress_is_shown_in_percent(done, total, percent):
    found = Progress("create", None)
    found.step("x", done=done, total=total)
    assert found.percent == percent


def test_hostile_names_are_shown_harmless():
    text = Progress("create", "web1", {"name": "a\n\x1b[2J" + "x" * 500, "owner": ["no"]}).text
    assert text.isprintable()
    assert len(text) < 250


def test_an_operation_that_waits_names_the_other_one(service, told):
    service.core.locks.timeout = 5
    heartbeat = Heartbeat(told, after=0.05, every=0.05)

    def create():
        with heartbeat.operation("create", "web1", {"name": "data"}):
            service.execute("create", {"name": "data", "size": 1}, "web1")

    with service.core.locks.held(volume_key("web1", "data"), why="the test"):
        thread = threading.Thread(target=create)
        thread.start()
        told.wait("waiting for the test")
    thread.join()
    heartbeat.close()
    assert told.all[-1]["state"] == "done"
    assert service.volume("web1", "data").size == 1


def test_not_waiting_is_an_error_at_once(service):
    locks = service.core.locks
    with locks.held("x", why="the test"), pytest.raises(errors.AbortedError, match="the test"), locks.held("x", why="me", timeout=0):
        pass
