"""Calls between processes: answers, errors, lost ends, and the users of a socket."""

from __future__ import annotations

import os
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import saltstorage
from saltstorage.errors import InternalError, LostError, NotFoundError, PermissionDeniedError
from saltstorage.ipc import calls, sockets
from saltstorage.ipc.calls import Connection, Step
from saltstorage.ipc.child import Child

PACKAGE = str(Path(saltstorage.__file__).parent.parent)
CHILD = """
import os, sys
from saltstorage.ipc import calls, child
def handle(op, args, step):
    if op == "die":
        os._exit(3)
    if op == "say":
        print("to be read", flush=True)
    return os.getpid()
calls.serve(child.parents(), handle, {"version": "1"})
"""


def handle(op: str, args: dict[str, Any], step: Step) -> Any:
    if op == "steps":
        for number in range(3):
            step({"text": f"step {number}"})
        return "done"
    if op == "missing":
        raise NotFoundError("no such thing", field="name", details={"a": 1})
    if op == "fault":
        raise RuntimeError("secret")
    if op == "exit":
        sys.exit(1)
    if op == "object":
        return object()
    return args


@pytest.fixture
def connection() -> Iterator[Connection]:
    ours, theirs = socket.socketpair()
    threading.Thread(target=calls.serve, args=(theirs, handle, {"version": "7"}), daemon=True).start()
    made = Connection(ours)
    yield made
    made.close()


def test_a_call_is_answered_and_tells_its_steps(connection: Connection) -> None:
    steps: list[Any] = []
    assert connection.hello == {"version": "7"}
    assert connection.call("steps", {}, step=steps.append) == "done"
    assert [step["text"] for step in steps] == ["step 0", "step 1", "step 2"]
    assert connection.call("echo", {"ä": [1, None, {"b": 2.5}]}) == {"ä": [1, None, {"b": 2.5}]}


def test_errors_cross_whole_and_faults_without_their_text(connection: Connection) -> None:
    with pytest.raises(NotFoundError) as found:
        connection.call("missing", {})
    assert (found.value.message, found.value.field, found.value.details) == ("no such thing", "name", {"a": 1})
    with pytest.raises(InternalError) as fault:
        connection.call("fault", {})
    assert "RuntimeError" in fault.value.message
    assert "secret" not in fault.value.message
    with pytest.raises(InternalError, match="SystemExit"):
        connection.call("exit", {})
    for op in ("object", "echo"):
        with pytest.raises(InternalError, match="no plain data"):
            connection.call(op, {"a": object()} if op == "echo" else {})
    assert connection.call("echo", {"still": "usable"}) == {"still": "usable"}


def test_a_silent_or_lost_end_is_no_answer() -> None:
    ours, theirs = socket.socketpair()
    gate = threading.Event()

    def wait(op: str, args: dict[str, Any], step: Step) -> Any:
        return gate.wait(60)

    threading.Thread(target=calls.serve, args=(theirs, wait, {}), daemon=True).start()
    connection = Connection(ours)
    with pytest.raises(LostError, match="does not answer"):
        connection.call("wait", {}, timeout=0.05)
    with pytest.raises(LostError, match="lost before"):
        connection.call("wait", {})
    gate.set()
    ours, theirs = socket.socketpair()
    theirs.sendall(b"HTTP/1.1 400 Bad Request\r\n")
    with pytest.raises(LostError, match="protocol"):
        Connection(ours)
    theirs.close()


@pytest.fixture
def listening(tmp_path: Path) -> Iterator[Callable[..., str]]:
    # Longer than a socket's address can be.
    folder = tmp_path / ("long" * 30)
    folder.mkdir()
    listeners: list[sockets.Listener] = []

    def listen(**how: Any) -> str:
        path = str(folder / "controller.sock")
        listener = sockets.Listener(path, **{"may": lambda peer: True, **how})
        listeners.append(listener)
        threading.Thread(target=listener.serve, args=(lambda peer: handle, lambda: {"peer": "x"}), daemon=True).start()
        return path

    yield listen
    for listener in listeners:
        listener.close()
    assert not list(folder.iterdir()), "the socket is left"


def test_a_socket_serves_many_connections(listening: Callable[..., str]) -> None:
    path = listening()
    assert os.stat(path).st_mode & 0o777 == 0o600
    connections = [sockets.connect(path, ()) for _ in range(5)]
    assert [connection.call("echo", {"n": n}) for n, connection in enumerate(connections)] == [{"n": n} for n in range(5)]
    for connection in connections:
        connection.close()


def test_only_one_process_listens_and_a_stale_socket_is_replaced(
    listening: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stale = tmp_path / ("long" * 30) / "controller.sock"
    with socket.socket(socket.AF_UNIX) as left:
        monkeypatch.chdir(stale.parent)
        left.bind(stale.name)
    with pytest.raises(LostError, match="nobody listens"):
        sockets.connect(str(stale), ())
    path = listening()
    with pytest.raises(LostError, match="listens at .* already"):
        listening()
    sockets.connect(path, ()).close()


def test_a_peer_that_may_not_ask_gets_nothing(listening: Callable[..., str]) -> None:
    path = listening(may=lambda peer: peer.uid == 12345)
    with pytest.raises(LostError):
        sockets.connect(path, ())


@pytest.mark.root
def test_a_socket_of_another_user_is_told_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "controller.sock"
    with socket.socket(socket.AF_UNIX) as other:
        monkeypatch.chdir(tmp_path)
        other.bind(path.name)
        other.listen()
        os.chown(path, 12345, -1)
        with pytest.raises(PermissionDeniedError, match="12345"):
            sockets.connect(str(path), ())


def child(script: str = CHILD, lines: list[str] | None = None) -> Child:
    tell = (lines if lines is not None else []).append
    return Child([sys.executable, "-c", script], {"PYTHONPATH": PACKAGE}, tell=tell, name="the child")


def test_a_child_answers_and_ends_with_its_connection() -> None:
    lines: list[str] = []
    started = child(lines=lines)
    assert started.connection.call("say", {}) == started.process.pid
    started.stop()
    assert not started.alive
    assert started.process.returncode == 0
    assert lines == ["to be read"]


def test_a_child_that_dies_is_lost_and_one_that_cannot_start_says_why() -> None:
    started = child()
    with pytest.raises(LostError):
        started.connection.call("die", {})
    started.stop()
    with pytest.raises(LostError, match="did not start: .*No module named 'nonsense'"):
        child("import nonsense")
    with pytest.raises(LostError, match="cannot be started"):
        Child(["/nonexistent/python"], {}, tell=print, name="the child")


def test_a_watch_hears_the_other_end_leave_during_a_call() -> None:
    ours, theirs = socket.socketpair()
    lost = threading.Event()
    calls.watch(theirs, lost.set)
    assert not lost.is_set()
    ours.close()
    assert lost.wait(10)
    theirs.close()
