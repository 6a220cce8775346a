"""The client's patience: when it asks again, when it gives up, and its message then. The bus is
scripted, the crypto real.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from saltstorage.bus import client, envelope
from saltstorage.bus.eventbus import BusLostError
from saltstorage.errors import DeadlineExceededError, StorageError, UnavailableError
from tests.unit.bus.conftest import KeyPair


class ScriptedBus:
    """A local event bus on which the test decides what happens when something is sent."""

    def __init__(self, on_send: Callable[[ScriptedBus, int], None]) -> None:
        self.on_send = on_send
        self.sent: list[dict[str, str]] = []
        self.events: list[Any] = []
        self.lost = False

    def open(self) -> None:
        if self.lost:
            raise BusLostError

    def close(self) -> None:
        pass

    def fire_master(self, tag: str, data: dict[str, str]) -> None:
        if self.lost:
            raise BusLostError
        self.sent.append(data)
        self.on_send(self, len(self.sent))

    def receive(self, tag: str, wait: float) -> tuple[str, Any] | None:
        if self.lost:
            raise BusLostError
        if self.events:
            return tag, self.events.pop(0)
        time.sleep(min(wait, 0.05))
        return None


class Keys:
    def __init__(self, pairs: dict[str, KeyPair]) -> None:
        self.pairs = pairs

    def private(self) -> Any:
        return self.pairs["alpha"].private

    def masters(self) -> list[Any]:
        return [self.pairs["master"].public]


class Link:
    def __init__(self, bus: ScriptedBus, keys: Keys) -> None:
        self.bus, self.keys = bus, keys


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the client repeat soon. Its patience is long, so that a busy machine has time to make a
    reply.
    """
    for name, value in {"FIRST_REPEAT": 0.1, "WORKING_REPEAT": 0.2, "PATIENCE_TO_REPEAT": 0}.items():
        monkeypatch.setattr(client, name, value)


class Rig:
    def __init__(self, pairs: dict[str, KeyPair]) -> None:
        self.pairs = pairs
        self.request = envelope.seal_request(pairs["alpha"].private, "alpha", "create", {})
        self.opened = envelope.open_request(self.request.data, lambda _: pairs["alpha"].public)
        self.bus = ScriptedBus(lambda bus, count: None)

    def reply(self, content: dict[str, Any], signed_by: str = "master") -> dict[str, str]:
        return envelope.seal_reply(self.pairs[signed_by].private, self.opened, content)

    def run(self, on_send: Callable[[ScriptedBus, int], None], timeout: float | None = None, answer_timeout: float = 30) -> envelope.Reply:
        self.bus.on_send = on_send
        link: Any = Link(self.bus, Keys(self.pairs))
        return client._Exchange(link, "alpha", self.request, "create", answer_timeout, timeout).run()


@pytest.fixture
def rig(pairs: dict[str, KeyPair]) -> Rig:
    return Rig(pairs)


DONE = {"status": "done", "ok": True, "data": {"x": 1}}
WORKING = {"status": "working"}


def test_same_bytes_until_answered(rig: Rig) -> None:
    """Rows G5 and R10."""
    reply = rig.run(lambda bus, count: bus.events.append(rig.reply(DONE)) if count == 3 else None)
    assert reply.data == {"x": 1}
    assert rig.bus.sent == [rig.request.data] * 3


def test_a_slow_host_asks_again_later(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each repeat is answered, and each answer is one more job for it."""
    monkeypatch.setattr(client, "PATIENCE_TO_REPEAT", 0.15)
    start = time.monotonic()
    rig.run(lambda bus, count: bus.events.append(rig.reply(DONE)) if count == 2 else None, answer_timeout=4)
    assert time.monotonic() - start >= 0.6


def test_a_silent_master_is_asked_again_until_patience_ends(rig: Rig) -> None:
    start = time.monotonic()
    with pytest.raises(UnavailableError, match="no storage controller answered within 1 s"):
        rig.run(lambda bus, count: None, answer_timeout=1)
    assert time.monotonic() - start >= 1
    assert len(rig.bus.sent) >= 3


def test_a_controller_that_falls_silent_is_given_up(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "SILENCE", 0.8)
    start = time.monotonic()
    with pytest.raises(UnavailableError, match="a rerun is safe") as caught:
        rig.run(lambda bus, count: bus.events.append(rig.reply(WORKING)) if count == 1 else None)
    assert "'create'" in caught.value.message
    assert time.monotonic() - start >= 0.8


@pytest.mark.slow
def test_a_controller_that_works_is_waited_for_longer_than_for_a_first_answer(rig: Rig) -> None:
    end = time.monotonic() + 2.1

    def work(bus: ScriptedBus, count: int) -> None:
        bus.events.append(rig.reply(WORKING if time.monotonic() < end else DONE))

    assert rig.run(work, answer_timeout=2).data == {"x": 1}


def test_a_call_ends_at_its_deadline_while_the_controller_works(rig: Rig) -> None:
    with pytest.raises(DeadlineExceededError):
        rig.run(lambda bus, count: bus.events.append(rig.reply(WORKING)), timeout=0.4)


def test_forged_replies_change_nothing(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    """Row R10: only the master can answer."""

    def forge_then_answer(bus: ScriptedBus, count: int) -> None:
        bus.events += [rig.reply({**DONE, "data": {"x": 2}}, signed_by="stranger"), None, "x", {"body": "MARKER"}, rig.reply(DONE)]

    assert rig.run(forge_then_answer).data == {"x": 1}
    lines = [record.getMessage() for record in caplog.records if record.name.startswith("saltstorage")]
    assert len(lines) == 1
    assert "MARKER" not in lines[0]


def test_a_daemon_that_restarts(rig: Rig) -> None:
    def lose_once(bus: ScriptedBus, count: int) -> None:
        if count == 1:
            bus.lost = True
        else:
            bus.events.append(rig.reply(DONE))

    bus = rig.bus
    opens: list[int] = []

    def open_later() -> None:
        opens.append(1)
        bus.lost = len(opens) < 2
        if bus.lost:
            raise BusLostError

    bus.open = open_later  # type: ignore[method-assign]
    assert rig.run(lose_once).data == {"x": 1}


def test_a_daemon_that_stays_away(rig: Rig) -> None:
    def lose(bus: ScriptedBus, count: int) -> None:
        bus.lost = True

    with pytest.raises(UnavailableError):
        rig.run(lose, answer_timeout=0.5)


def test_errors_are_raised_with_their_type(rig: Rig) -> None:
    error = {"code": "NOT_FOUND", "message": "no", "field": "name", "details": {}}
    reply = rig.run(lambda bus, count: bus.events.append(rig.reply({"status": "done", "ok": False, "error": error})))
    assert isinstance(client.from_wire(reply.error or {}), StorageError)
    assert reply.error == error
