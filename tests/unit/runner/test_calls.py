"""The parts of a runner's function beside the operation: failures as Salt recognises them, and
events.
"""

from __future__ import annotations

import io
import sys

import pytest

from saltstorage.bus.eventbus import BusLostError
from saltstorage.errors import FailedPreconditionError, InternalError, InvalidArgumentError
from saltstorage.progress import Progress
from saltstorage.runner import calls
from tests.unit.controller.operations.test_connections import CONNECTOR, run

GIVEN = {"name": "data", "owner": "web1", "host": "web1", "fenced": True}


@pytest.fixture(autouse=True)
def _called_from_python(monkeypatch):
    """No test before has left the tag of Salt's ``RunnerClient``."""
    monkeypatch.setattr(calls, "__tag__", "")


@pytest.fixture
def runner_client(monkeypatch):
    """Salt's ``RunnerClient`` is the caller."""
    monkeypatch.setattr(calls, "__tag__", "salt/run/20260101000000000000")


@calls.operation
def refused(name, owner):
    """Refuse to do anything."""
    raise FailedPreconditionError(f"{owner} may still write to {name}", details={"host": owner})


@pytest.mark.usefixtures("runner_client")
def test_a_failure_has_all_that_salt_takes_for_one():
    assert refused("data", owner="db1") == {
        "error": "FAILED_PRECONDITION: db1 may still write to data",
        "code": "FAILED_PRECONDITION",
        "details": {"host": "db1"},
        "success": False,
        "retcode": 1,
        "exit_code": 1,
        "data": None,
    }


@pytest.mark.usefixtures("runner_client")
@pytest.mark.parametrize(("args", "missing"), [((), "name"), (("data",), "owner"), (("data", "db1", "more"), "too many")])
def test_wrong_arguments_are_a_failure(args, missing):
    answer = refused(*args)
    assert (answer["code"], answer["success"]) == ("INVALID_ARGUMENT", False)
    assert answer["error"].startswith("INVALID_ARGUMENT: refused: ")
    assert missing in answer["error"]


@pytest.mark.parametrize("tag", ["", "salt/scheduler/20260101000000000000"])
def test_every_other_caller_gets_the_exception(monkeypatch, tag):
    monkeypatch.setattr(calls, "__tag__", tag)
    with pytest.raises(FailedPreconditionError, match="db1 may still write to data") as raised:
        refused("data", "db1")
    assert raised.value.details == {"host": "db1"}
    with pytest.raises(InvalidArgumentError, match="missing a required argument: 'name'"):
        refused()


def test_an_unexpected_exception_is_a_failure_without_its_text(monkeypatch, caplog):
    @calls.operation
    def broken():
        """Fail as a driver or a database would."""
        raise ValueError("password=MARKER")

    with pytest.raises(InternalError, match=r"storage\.broken failed with ValueError") as raised:
        broken()
    monkeypatch.setattr(calls, "__tag__", "salt/run/1")
    answer = broken()
    assert (answer["code"], answer["success"]) == ("INTERNAL", False)
    assert "test_calls.py" in caplog.text, "the log has the place"
    assert "MARKER" not in f"{answer} {raised.getrepr(chain=True)} {caplog.text}".replace('raise ValueError("password=MARKER")', "")


@pytest.fixture
def connected(service):
    """The id of a volume that is connected to its host."""
    run(service, "create", name="data", size=1)
    return run(service, "connect", name="data", connector=CONNECTOR)["volume"]["id"]


@pytest.fixture
def fired(monkeypatch):
    """The events on the master's bus, without those that report a call which takes long here."""
    found = []

    def fire(self, tag, data):
        if tag.startswith(calls.FENCED_TAG):
            found.append((self._node, tag, data))

    monkeypatch.setattr(calls.EventBus, "fire", fire)
    return found


def test_r18_an_event_says_that_a_volume_was_taken_from_a_fenced_host(opts, service, connected, fired, monkeypatch):
    unmapped = []

    def fire(bus, tag, data, fire=calls.EventBus.fire):
        if tag.startswith(calls.FENCED_TAG):
            unmapped.append(service.catalog.connections())
        fire(bus, tag, data)

    monkeypatch.setattr(calls.EventBus, "fire", fire)
    with pytest.raises(FailedPreconditionError):
        calls.disconnect(opts, {**GIVEN, "fenced": False})
    assert fired == []
    assert calls.disconnect(opts, GIVEN)["connection"]["host"] == "web1"
    assert fired == [("master", f"storage/fenced/{connected}", {"volume": "data", "owner": "web1", "host": "web1"})]
    assert unmapped == [[]], "only when the volume is free"
    assert calls.disconnect(opts, GIVEN) == {"connection": None}
    assert len(fired) == 1


def test_without_a_masters_bus_the_volume_is_unmapped_all_the_same(opts, service, connected, monkeypatch):
    def lost(*_):
        raise BusLostError

    monkeypatch.setattr(calls.EventBus, "fire", lost)
    assert calls.disconnect(opts, GIVEN)["connection"]["host"] == "web1"
    assert service.catalog.connections() == []


@pytest.mark.parametrize("tty", [True, False])
def test_a_masterless_minion_shows_progress_on_the_terminal(monkeypatch, capsys, tty):
    """On standard error, and not where that is a file or a pipe, nor where there is none."""
    stderr = io.StringIO()
    stderr.isatty = lambda: tty
    monkeypatch.setattr(sys, "stderr", stderr)
    tell = calls._progress({"__role": "minion"})
    tell(Progress("migrate", None, {"name": "data", "owner": "db1"}).to_wire())
    assert stderr.getvalue() == ("migrate 'data' of db1 (0 s)\n" if tty else "")
    monkeypatch.setattr(sys, "stderr", None)
    tell(Progress("migrate", None).to_wire())
    assert capsys.readouterr().out == ""
