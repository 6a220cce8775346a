"""The work of the runner's functions beside the operation."""

from __future__ import annotations

import pytest

from saltstorage.bus.eventbus import BusLostError
from saltstorage.runner import calls
from tests.unit.controller.operations.test_connections import CONNECTOR, run

GIVEN = {"name": "data", "owner": "web1", "host": "web1", "fenced": True}


@pytest.fixture
def connected(service):
    """The id of a volume that is connected to its host."""
    run(service, "create", name="data", size=1)
    return run(service, "connect", name="data", connector=CONNECTOR)["volume"]["id"]


@pytest.fixture
def fired(monkeypatch):
    """The events on the master's bus."""
    found = []
    monkeypatch.setattr(calls.EventBus, "fire", lambda self, tag, data: found.append((self._node, tag, data)))
    return found


def test_r18_an_event_says_that_a_volume_was_taken_from_a_fenced_host(opts, service, connected, fired, monkeypatch):
    unmapped = []
    monkeypatch.setattr(
        calls.EventBus, "fire", lambda *event, fire=calls.EventBus.fire: (unmapped.append(service.catalog.connections()), fire(*event))
    )
    assert calls.disconnect(opts, None, {**GIVEN, "fenced": False})["code"] == "FAILED_PRECONDITION"
    assert fired == []
    assert calls.disconnect(opts, None, GIVEN)["connection"]["host"] == "web1"
    assert fired == [("master", f"storage/fenced/{connected}", {"volume": "data", "owner": "web1", "host": "web1"})]
    assert unmapped == [[]], "only when the volume is free"
    assert calls.disconnect(opts, None, GIVEN) == {"connection": None}
    assert len(fired) == 1


def test_without_a_master_s_bus_it_is_unmapped_all_the_same(opts, service, connected, monkeypatch):
    def lost(*_):
        raise BusLostError

    monkeypatch.setattr(calls.EventBus, "fire", lost)
    assert calls.disconnect(opts, None, GIVEN)["connection"]["host"] == "web1"
    assert service.catalog.connections() == []
