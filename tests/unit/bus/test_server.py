"""The server without Salt's daemons: its operations, its answers, its refusals."""

from __future__ import annotations

import json
import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from saltstorage import progress
from saltstorage.bus import envelope, unrecorded
from saltstorage.bus.sealing import Sealer
from saltstorage.bus.server import Server
from saltstorage.errors import NotFoundError
from tests.unit.bus.conftest import KeyPair, MemoryJournal, set_key


class Rig:
    """A server whose replies are collected, and opened with the key of their minion."""

    def __init__(self, opts: dict[str, Any], pairs: dict[str, KeyPair], **settings: Any) -> None:
        self.opts = opts
        self.pairs = pairs
        self.journal = MemoryJournal()
        self.finish = self.journal.finish
        self.journal.finish = lambda *args: self.finish(*args)  # type: ignore[method-assign]
        self.executed: list[tuple[str, dict[str, Any], str]] = []
        self.action: Callable[[], Any] = lambda: {"done": True}
        self.published: list[tuple[str, str, dict[str, str]]] = []
        self._arrived = threading.Condition()
        self.lose = 0
        self.server = Server(opts, self.execute, self.journal, publish=self.publish, **settings)

    def execute(self, op: str, args: dict[str, Any], caller: str) -> dict[str, Any]:
        self.executed.append((op, args, caller))
        return self.action()  # type: ignore[no-any-return]

    def publish(self, minion: str, tag: str, data: dict[str, str]) -> bool:
        with self._arrived:
            if self.lose:
                self.lose -= 1
                return False
            self.published.append((minion, tag, data))
            self._arrived.notify_all()
        return True

    def request(
        self, minion: str = "alpha", op: str = "create", args: dict[str, Any] | None = None, **kwargs: Any
    ) -> envelope.SealedRequest:
        return envelope.seal_request(self.pairs[minion].private, minion, op, args or {}, **kwargs)

    def send(self, request: envelope.SealedRequest) -> None:
        self.server.handle(envelope.REQUEST_TAG + request.id, request.data)

    def wait(self, count: int = 1) -> None:
        with self._arrived:
            assert self._arrived.wait_for(lambda: len(self.published) >= count, 10), f"{len(self.published)} of {count} replies came"

    def reply(self, request: envelope.SealedRequest, minion: str = "alpha", index: int = -1) -> envelope.Reply:
        to, tag, data = [entry for entry in self.published if entry[1].endswith(request.id)][index]
        assert (to, tag) == (minion, envelope.REPLY_TAG + request.id)
        return envelope.open_reply(data, self.pairs[minion].private, [self.pairs["master"].public], minion, request)

    def ask(self, request: envelope.SealedRequest, minion: str = "alpha") -> envelope.Reply:
        before = len(self.published)
        self.send(request)
        self.wait(before + 1)
        return self.reply(request, minion)

    def settle(self) -> None:
        """Wait until nothing is being worked on."""
        deadline = time.monotonic() + 10
        while self.server.busy:
            assert time.monotonic() < deadline
            time.sleep(0.01)


@pytest.fixture
def rig(master_opts: dict[str, Any], pairs: dict[str, KeyPair]) -> Iterator[Rig]:
    rig = Rig(master_opts, pairs)
    yield rig
    rig.server.close(5)


def code(reply: envelope.Reply) -> str:
    assert reply.error is not None
    return str(reply.error["code"])


def test_round_trip(rig: Rig) -> None:
    reply = rig.ask(rig.request(args={"name": "db"}))
    assert reply.data == {"done": True}
    assert rig.executed == [("create", {"name": "db"}, "alpha")]


@pytest.mark.parametrize("wrap", [lambda data: data, lambda data: {"id": "beta", "tag": "t", "cmd": "_minion_event", "data": data}])
def test_both_forms_of_a_minion_event(rig: Rig, wrap: Callable[[Any], Any]) -> None:
    """The ``id`` that Salt or a forger puts beside the data does not matter."""
    request = rig.request()
    rig.server.handle(envelope.REQUEST_TAG + request.id, wrap({**request.data, "id": "beta", "_stamp": "x"}))
    rig.wait()
    assert rig.reply(request).ok
    assert rig.executed[0][2] == "alpha"


def test_executed_once_answered_as_often_as_asked(rig: Rig) -> None:
    """Rows G5 and R10."""
    rig.lose = 1
    request = rig.request()
    rig.send(request)
    rig.settle()
    time.sleep(0.1)
    assert rig.published == []
    assert rig.ask(request).data == {"done": True}
    time.sleep(0.6)
    assert rig.ask(request).data == {"done": True}
    assert len(rig.executed) == 1


def test_replayed_events_do_not_multiply_jobs(rig: Rig) -> None:
    request = rig.request()
    assert rig.ask(request).ok
    for _ in range(50):
        rig.send(request)
    rig.settle()
    time.sleep(0.2)
    assert len(rig.published) <= 3


def test_working_is_told_while_it_runs(rig: Rig) -> None:
    gate = threading.Event()

    def work() -> dict[str, Any]:
        progress.step("copying", done=1, total=4)
        gate.wait(10)
        return {}

    rig.action = work
    request = rig.request(args={"name": "data", "password": "MARKER"})
    rig.send(request)
    assert rig.published == []
    time.sleep(1.1)
    rig.server.tick()
    rig.wait()
    assert rig.reply(request).status == "working"
    assert rig.reply(request).text == "create 'data' of alpha: copying, 25 %"
    time.sleep(0.6)
    assert rig.ask(request).status == "working"
    gate.set()
    rig.wait(3)
    assert rig.reply(request).status == "done"
    assert len(rig.executed) == 1


REPORT = {
    "id": "a" * 32,
    "op": "mkfs.xfs",
    "minion": "alpha",
    "volume": "data",
    "owner": "alpha",
    "volume_id": "11111111-1111-4111-8111-111111111111",
    "state": "running",
    "seconds": 12.5,
    "step": "make the file system",
    "percent": None,
    "text": "whatever",
}


@pytest.fixture
def told(master_opts: dict[str, Any], pairs: dict[str, KeyPair]) -> Iterator[tuple[Rig, queue.Queue[dict[str, Any]]]]:
    """A server, and its reports on the master's bus."""
    found: queue.Queue[dict[str, Any]] = queue.Queue()
    rig = Rig(master_opts, pairs, tell=found.put)
    yield rig, found
    rig.server.close(5)


@pytest.mark.parametrize("owner", ["alpha", "shared"])
def test_g11_what_a_minion_says_of_a_long_step_is_passed_on(told: tuple[Rig, queue.Queue[dict[str, Any]]], owner: str) -> None:
    """In the form of the controller's own operations; it is neither recorded nor answered."""
    rig, found = told
    rig.send(rig.request(op=envelope.PROGRESS, args={**REPORT, "owner": owner, "minion": "beta", "secret": "MARKER"}))
    got = found.get(timeout=10)
    assert got == {**REPORT, "owner": owner, "seconds": got["seconds"], "text": got["text"]}
    assert got["seconds"] >= 12.5
    assert got["text"] == f"mkfs.xfs 'data' of {owner}: make the file system ({got['seconds']:.0f} s)"
    assert rig.ask(rig.request()).ok
    assert [op for op, _, _ in rig.executed] == ["create"]
    assert len(rig.journal.entries) == len(rig.published) == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"owner": "beta"},
        {"owner": ["alpha"]},
        {"owner": None},
        {"volume": "../x"},
        {"volume": ""},
        {"volume": None},
        {"volume": "a\n"},
        {"volume_id": "MARKER"},
        {"volume_id": 1},
        {"id": "../../x"},
        {"id": "a" * 33},
        {"id": None},
        {"op": "create 'MARKER'"},
        {"op": ""},
        {"op": {}},
        {"state": "gone"},
        {"state": []},
        {"seconds": -1},
        {"seconds": True},
        {"seconds": 1e300},
        {"seconds": "1"},
    ],
)
def test_what_is_malformed_or_of_another_is_not_passed_on(
    told: tuple[Rig, queue.Queue[dict[str, Any]]], wrong: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    rig, found = told
    rig.send(rig.request(op=envelope.PROGRESS, args={**REPORT, **wrong}))
    rig.send(rig.request(op=envelope.PROGRESS, args={**REPORT, "step": 7}))
    assert found.get(timeout=10)["step"] == ""
    assert found.empty()
    assert "malformed report of progress" in caplog.text
    assert "MARKER" not in caplog.text
    assert rig.published == []


def test_a_report_that_is_forged_or_old_is_not_passed_on(told: tuple[Rig, queue.Queue[dict[str, Any]]]) -> None:
    rig, found = told
    report = {"op": envelope.PROGRESS, "args": REPORT}
    forged = envelope.seal_request(rig.pairs["stranger"].private, "alpha", envelope.PROGRESS, REPORT)
    for each in (forged, rig.request(**report, now=time.time() - 400), rig.request("beta", **report)):
        rig.send(each)
    rig.send(rig.request(**{**report, "args": {**REPORT, "step": "a\x1b[2J" + "x" * 500}}))
    got = found.get(timeout=10)
    assert got["step"].startswith("a?[2Jx")
    assert len(got["step"]) == progress.MAX_TEXT
    assert found.empty()


def test_reports_get_out_while_every_worker_is_busy_and_never_stop_the_engine(
    master_opts: dict[str, Any], pairs: dict[str, KeyPair]
) -> None:
    gate, heard = threading.Event(), threading.Event()

    def tell(data: dict[str, Any]) -> None:
        heard.set()
        raise OSError("MARKER")

    rig = Rig(master_opts, pairs, tell=tell, workers=1)
    rig.action = lambda: gate.wait(20) and {}
    busy = rig.request()
    rig.send(busy)
    rig.send(rig.request(op=envelope.PROGRESS, args=REPORT))
    assert heard.wait(10)
    gate.set()
    rig.wait()
    assert rig.reply(busy).ok
    rig.server.close(5)


def test_an_engine_that_died_is_followed_by_one_that_carries_on(rig: Rig, master_opts: dict[str, Any], pairs: dict[str, KeyPair]) -> None:
    request = rig.request(now=time.time() - 1000)
    rig.journal.begin(request.id, "alpha", request.digest, "create", 0.0)
    first = rig.ask(request)
    assert first.status == "working", "known, so its age does not matter; and another engine has it"
    rig.journal.entries[request.id] = type(rig.journal.entries[request.id])("new", request.digest)
    time.sleep(0.6)
    assert rig.ask(request).data == {"done": True}


@pytest.mark.parametrize(("state", "expected"), [("old", "ABORTED"), ("full", "RESOURCE_EXHAUSTED"), ("done", "ABORTED")])
def test_what_the_journal_will_not_have_done_is_not(rig: Rig, state: str, expected: str) -> None:
    """Too old and never ended; too many of this minion; done, and the reply is not kept any
    more.
    """
    request = rig.request(now=time.time() - 1000)
    rig.journal.begin(request.id, "alpha", request.digest, "create", 0.0)
    rig.journal.entries[request.id] = type(rig.journal.entries[request.id])(state, request.digest)
    assert code(rig.ask(request)) == expected
    assert rig.executed == []


def test_a_refusal_is_short(rig: Rig) -> None:
    def refuse() -> None:
        raise NotFoundError("x" * 200_000, details={"names": ["y" * 100_000]})

    rig.action = refuse
    request = rig.request()
    assert code(rig.ask(request)) == "NOT_FOUND"
    rig.settle()
    assert len(rig.journal.entries[request.id].reply or b"") < 32 * 1024


def test_same_id_other_contents(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    first = rig.request(args={"size": 1})
    assert rig.ask(first).ok
    monkeypatch.setattr(envelope.uuid, "uuid4", lambda: type("Fixed", (), {"hex": first.id}))
    second = rig.request(args={"size": 2})
    assert second.id == first.id
    time.sleep(0.6)
    assert code(rig.ask(second)) == "ALREADY_EXISTS"
    assert len(rig.executed) == 1


def test_same_id_other_contents_while_it_runs(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = threading.Event()
    rig.action = lambda: gate.wait(10) and {}
    first = rig.request(args={"size": 1})
    rig.send(first)
    monkeypatch.setattr(envelope.uuid, "uuid4", lambda: type("Fixed", (), {"hex": first.id}))
    second = rig.request("beta", args={"size": 1})
    assert code(rig.ask(second, "beta")) == "ALREADY_EXISTS"
    gate.set()
    rig.settle()
    assert len(rig.executed) == 1


@pytest.mark.parametrize(("offset", "word"), [(-400, "before"), (400, "after")])
def test_clocks(rig: Rig, offset: float, word: str) -> None:
    reply = rig.ask(rig.request(now=time.time() + offset))
    assert code(reply) == "FAILED_PRECONDITION"
    assert reply.error is not None
    assert "clocks" in reply.error["message"]
    assert word in reply.error["message"]
    assert rig.executed == []
    assert rig.journal.entries == {}


def test_within_the_allowed_age(rig: Rig) -> None:
    assert rig.ask(rig.request(now=time.time() - 250)).ok


def test_typed_errors_cross(rig: Rig) -> None:
    def missing() -> None:
        raise NotFoundError("volume 'x' does not exist", field="name", details={"name": "x"})

    rig.action = missing
    reply = rig.ask(rig.request())
    assert reply.error == {"code": "NOT_FOUND", "message": "volume 'x' does not exist", "field": "name", "details": {"name": "x"}}


def test_a_fault_is_logged_without_its_words(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    def fault() -> None:
        try:
            raise ValueError("MARKER in the cause")
        except ValueError as exc:
            raise RuntimeError("MARKER") from exc

    rig.action = fault
    with caplog.at_level(logging.DEBUG, logger="saltstorage"):
        reply = rig.ask(rig.request(args={"secret": "MARKER"}))
    assert code(reply) == "INTERNAL"
    assert reply.error is not None
    message = reply.error["message"]
    reference = message.split()[-1]
    assert reference in caplog.text
    assert "builtins.ValueError" in caplog.text
    assert "in fault" in caplog.text
    assert "MARKER" not in caplog.text + message


@pytest.mark.parametrize("result", [{"x": object()}, {"x": "y" * envelope.MAX_REPLY}])
def test_a_result_that_cannot_be_sent(rig: Rig, result: Any) -> None:
    rig.action = lambda: result
    assert code(rig.ask(rig.request())) == "INTERNAL"


def test_an_error_with_details_that_cannot_be_sent(rig: Rig) -> None:
    def missing() -> None:
        raise NotFoundError("gone", details={"x": object()})

    rig.action = missing
    reply = rig.ask(rig.request())
    assert reply.error == {"code": "NOT_FOUND", "message": "gone", "field": None, "details": {}}


def test_an_error_whose_text_cannot_be_encoded(rig: Rig) -> None:
    """Such a text may name a file with bytes that are no UTF-8."""

    def odd() -> None:
        raise NotFoundError("no file /srv/\udcff", field="\udcff")

    rig.action = odd
    request = rig.request()
    reply = rig.ask(request)
    assert reply.error == {"code": "NOT_FOUND", "message": "no file /srv/\\udcff", "field": None, "details": {}}
    assert rig.journal.entries[request.id].state == "done"


class _Odd(NotFoundError):
    def to_wire(self) -> dict[str, Any]:
        raise RuntimeError("s3cret")


class _Exit(BaseException):
    pass


@pytest.mark.parametrize("error", [_Odd("x"), _Exit("s3cret"), SystemExit(1)])
def test_whatever_is_raised_the_request_ends(rig: Rig, error: BaseException, caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> None:
        raise error

    rig.action = fail
    request = rig.request()
    assert code(rig.ask(request)) == "INTERNAL"
    assert rig.journal.entries[request.id].state == "done"
    assert "s3cret" not in caplog.text


def test_a_newer_client(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(envelope, "VERSION", 2)
    request = rig.request()
    monkeypatch.undo()
    assert code(rig.ask(request)) == "UNIMPLEMENTED"


def test_a_journal_that_fails(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(rig.journal, "begin", broken)
    assert code(rig.ask(rig.request())) == "UNAVAILABLE"
    assert rig.executed == []


def test_a_journal_that_fails_at_the_end(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise OSError(28, "No space left on device")

    finish = rig.finish
    rig.finish = broken
    rig.lose = 1
    request = rig.request()
    rig.send(request)
    rig.settle()
    time.sleep(0.1)
    assert rig.ask(request).ok
    time.sleep(0.6)
    assert rig.ask(request).ok, "that it was published once proves nothing"
    assert len(rig.executed) == 1
    assert rig.journal.entries[request.id].state == "running"
    monkeypatch.setattr(rig.server.execution.unrecorded, "_clock", lambda: time.monotonic() + 60)
    rig.finish = finish
    rig.server.tick()
    rig.server.workers.close(5, drop=False)
    assert rig.journal.entries[request.id].state == "done"
    assert rig.server.execution.unrecorded.find(request.id) is None


def test_a_reply_that_is_not_recorded_outlives_that_its_minion_was_told_working(rig: Rig) -> None:
    """As it is by a report that waited for its turn while the work ended."""

    def broken(*_: object) -> None:
        raise OSError(28, "No space left on device")

    rig.finish = broken
    request = rig.request()
    assert rig.ask(request).ok
    opened = envelope.open_request(request.data, lambda _: rig.pairs["alpha"].public)
    rig.server.replies.publish(opened, Sealer(rig.opts).working(opened, ""))
    time.sleep(0.6)
    assert rig.ask(request).status == "done"
    assert len(rig.executed) == 1


def test_replies_that_are_not_recorded_are_bounded(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """None of them is dropped; instead nothing more is carried out. Requests in the journal are
    answered as ever.
    """

    def broken(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(unrecorded, "MOST", 2)
    done = rig.request()
    assert rig.ask(done).ok
    rig.settle()
    rig.finish = broken
    kept = [rig.request() for _ in range(2)]
    assert all(rig.ask(request).ok for request in kept)
    rig.settle()
    assert code(rig.ask(rig.request())) == "UNAVAILABLE"
    assert len(rig.executed) == 3
    time.sleep(0.6)
    assert all(rig.ask(request).ok for request in (done, *kept))
    assert len(rig.executed) == 3


def test_too_many_of_one_minion(master_opts: dict[str, Any], pairs: dict[str, KeyPair]) -> None:
    rig = Rig(master_opts, pairs, workers=2, pending=3)
    gate = threading.Event()
    rig.action = lambda: gate.wait(10) and {}
    requests = [rig.request() for _ in range(8)]
    for request in requests:
        rig.send(request)
    rig.wait(4)
    refused = [request for request in requests if any(tag.endswith(request.id) for _, tag, _ in rig.published)]
    assert {code(rig.reply(request)) for request in refused} == {"RESOURCE_EXHAUSTED"}
    assert 4 <= len(refused) <= 5
    other = rig.request("beta")
    rig.send(other)
    gate.set()
    rig.settle()
    rig.wait(9)
    assert rig.reply(other, "beta").ok
    rig.server.close(5)


def test_a_key_that_was_rejected_meanwhile(rig: Rig, pairs: dict[str, KeyPair]) -> None:
    assert rig.ask(rig.request()).ok
    set_key(rig.opts, "alpha", pairs["alpha"].public_pem, "rejected")
    rig.send(rig.request())
    rig.settle()
    assert len(rig.executed) == 1
    assert len(rig.published) == 1


def test_the_tag_must_be_of_the_request(rig: Rig) -> None:
    request = rig.request()
    rig.server.handle(envelope.REQUEST_TAG + "0" * 32, request.data)
    rig.settle()
    assert rig.executed == []


def test_garbage_is_logged_with_measure_and_without_contents(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    stranger = rig.pairs["stranger"].private
    with caplog.at_level(logging.DEBUG, logger="saltstorage"):
        for number in range(300):
            rig.server.handle("storage/request/x", {"body": f"MARKER{number}"})
            rig.server.handle("storage/request/x", f"MARKER{number}")
            rig.server.handle("storage/request/x", None)
        for number in range(100):
            request = envelope.seal_request(stranger, f"stranger{number}\n", "create", {"x": "MARKER"})
            rig.send(request)
            rig.send(envelope.seal_request(stranger, "alpha", "create", {"x": "MARKER"}))
            rig.send(
                envelope.seal_request(stranger, "\ud800" if number % 2 else "\u2028" * 200, "create", {}) if number % 2 == 0 else request
            )
    assert rig.executed == []
    assert rig.published == []
    assert "MARKER" not in caplog.text
    logged = [record.getMessage() for record in caplog.records if record.name.startswith("saltstorage")]
    assert 2 <= len(logged) <= 20
    assert not any("\n" in line for line in logged)
    assert rig.ask(rig.request()).ok


def test_a_surrogate_as_minion(rig: Rig) -> None:
    body = json.dumps({"v": 1, "id": "0" * 32, "minion": "\ud800", "op": "x", "args": {}, "time": 1.0}).encode()
    rig.server.handle("storage/request/" + "0" * 32, {"body": envelope._b64(body), "sig": "eA=="})
    assert rig.ask(rig.request()).ok


def test_requests_run_in_parallel(rig: Rig) -> None:
    barrier = threading.Barrier(2)
    rig.action = lambda: {"with": barrier.wait(10) >= 0}
    first, second = rig.request("alpha"), rig.request("beta")
    rig.send(first)
    rig.send(second)
    rig.wait(2)
    assert rig.reply(first).ok
    assert rig.reply(second, "beta").ok


def test_closing_lets_running_operations_finish(master_opts: dict[str, Any], pairs: dict[str, KeyPair]) -> None:
    rig = Rig(master_opts, pairs)
    started = threading.Event()

    def slow() -> dict[str, Any]:
        started.set()
        time.sleep(0.5)
        return {"done": True}

    rig.action = slow
    request = rig.request()
    rig.send(request)
    assert started.wait(5)
    rig.server.close(5)
    assert rig.journal.entries[request.id].state == "done"
    assert rig.reply(request).data == {"done": True}


def test_closing_is_bounded(master_opts: dict[str, Any], pairs: dict[str, KeyPair]) -> None:
    rig = Rig(master_opts, pairs)
    gate, started = threading.Event(), threading.Event()

    def endless() -> dict[str, Any]:
        started.set()
        gate.wait()
        return {}

    rig.action = endless
    rig.send(rig.request())
    assert started.wait(5)
    # It returns at all: the operation that it would wait for ends only below.
    rig.server.close(0.3)
    gate.set()
