"""The bus between real daemons: its ways, its repeats, and its refusals. The operations are those
of the tests' own engine.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import secrets
import signal
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import salt.utils.event

from saltstorage.bus import envelope, stacks
from saltstorage.bus.keys import QuickKey
from tests.integration.cluster import Cluster

pytestmark = [pytest.mark.slow]

#: The cluster's minions wait so long for a first answer, seconds.
ANSWER_TIMEOUT = 5


def folder(cluster: Cluster) -> Path:
    return Path(cluster.master.config["cachedir"])


def executed(cluster: Cluster, mark: str) -> list[dict[str, Any]]:
    """Return what the engine noted of the operations that bear this mark."""
    path = folder(cluster) / "bustest.executed"
    lines = path.read_text().splitlines() if path.exists() else []
    return [entry for entry in map(json.loads, lines) if entry["mark"] == mark]


def begun(cluster: Cluster, mark: str) -> int:
    return sum("begun" in entry for entry in executed(cluster, mark))


def published(cluster: Cluster) -> int:
    """Return how many replies the engine has published."""
    return (folder(cluster) / "bustest.published").stat().st_size


def wait_for(what: Any, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)


def engine_pid(cluster: Cluster) -> int:
    return int((folder(cluster) / "bustest.pid").read_text())


def in_background(function: Any, *args: Any, **kwargs: Any) -> Future[Any]:
    pool = ThreadPoolExecutor(1)
    future = pool.submit(function, *args, **kwargs)
    pool.shutdown(wait=False)
    return future


def craft(cluster: Cluster, minion: str, *, signed_by: str | None = None, mark: str, **kwargs: Any) -> dict[str, Any]:
    """Return an event with a request of ``minion``, signed with the key of ``signed_by``, default
    its own.
    """
    path = Path(cluster.minions[signed_by or minion].config["pki_dir"]) / "minion.pem"
    request = envelope.seal_request(QuickKey(path.read_bytes()), minion, "echo", {"mark": mark}, **kwargs)
    return {"tag": envelope.REQUEST_TAG + request.id, "data": request.data}


def storage_lines(cluster: Cluster) -> list[str]:
    return [line for line in cluster.log("master").splitlines() if "storage: refused" in line]


def test_from_a_job(bus_cluster: Cluster) -> None:
    found = bus_cluster.salt("alpha", "bustest.call", "echo", {"x": "☃"}, "times=2")
    assert found["result"] == {"args": {"x": "☃"}, "caller": "alpha"}


def test_from_salt_call_beside_the_minion(bus_cluster: Cluster) -> None:
    found = bus_cluster.call("beta", "bustest.call", "echo", {"x": 1}, "times=2")
    assert found["result"] == {"args": {"x": 1}, "caller": "beta"}


def test_errors_keep_their_type(bus_cluster: Cluster) -> None:
    error = bus_cluster.job("alpha", "bustest.call", "missing")["result"]["error"]
    assert error == {"code": "NOT_FOUND", "message": "volume 'x' does not exist", "field": "name", "details": {"name": "x"}}


def test_a_fault_is_in_the_log_of_the_master_under_its_reference(bus_cluster: Cluster) -> None:
    error = bus_cluster.job("alpha", "bustest.call", "fault")["result"]["error"]
    assert error["code"] == "INTERNAL"
    reference = error["message"].split()[-1]
    assert f"reference {reference}" in bus_cluster.log("master")
    assert "words that must not be seen" not in bus_cluster.log("master") + json.dumps(error)


def test_a_context_that_is_inherited_by_a_child(bus_cluster: Cluster) -> None:
    assert bus_cluster.call("alpha", "bustest.forked") == ["alpha"] * 3


def test_a_long_operation_is_waited_for(bus_cluster: Cluster) -> None:
    seconds = ANSWER_TIMEOUT + 3
    found = bus_cluster.job("alpha", "bustest.call", "echo", {"mark": "long", "seconds": seconds})
    assert found["result"]["caller"] == "alpha"
    assert found["seconds"][0] >= seconds
    assert begun(bus_cluster, "long") == 1


def test_a_signal_writes_the_stacks_of_all_threads_of_the_engine(bus_cluster: Cluster) -> None:
    """A driver hangs in a worker; the main thread, which is all that Salt's own handler shows,
    only waits for events.
    """
    path = Path(bus_cluster.master.config["log_file"]).with_name(stacks.FILE)
    call = in_background(bus_cluster.job, "alpha", "bustest.call", "echo", {"mark": "hangs", "seconds": 5})
    wait_for(lambda: begun(bus_cluster, "hangs") == 1)
    os.kill(engine_pid(bus_cluster), signal.SIGUSR1)
    wait_for(lambda: "bustest.py" in path.read_text())
    text = path.read_text()
    threads = [thread for thread in text.split("\n\n") if "bustest.py" in thread]
    assert any("in execute" in thread and "in _carry_out" in thread for thread in threads), text
    assert any("in receive" in thread for thread in text.split("\n\n")), "the main thread"
    assert path.stat().st_mode & 0o777 == 0o600
    assert call.result(90)["result"]["caller"] == "alpha", "the engine goes on"
    assert f"kill -USR1 {engine_pid(bus_cluster)}" in bus_cluster.log("master")


def test_a_deadline_of_the_caller(bus_cluster: Cluster) -> None:
    found = bus_cluster.job("alpha", "bustest.call", "echo", {"mark": "deadline", "seconds": 4}, limit=2)
    assert found["result"]["error"]["code"] == "DEADLINE_EXCEEDED"
    assert found["seconds"][0] >= 2
    # Its late reply is not to be taken for one of the next test.
    wait_for(lambda: len(executed(bus_cluster, "deadline")) == 2)
    assert bus_cluster.job("alpha", "bustest.call", "echo")["result"]["caller"] == "alpha"


def test_a_lost_reply_is_asked_for_again(bus_cluster: Cluster) -> None:
    """Rows G5 and R10."""
    drop = folder(bus_cluster) / "bustest.drop"
    drop.touch()
    found = bus_cluster.job("alpha", "bustest.call", "echo", {"mark": "lost"})
    assert not drop.exists()
    assert found["result"]["caller"] == "alpha"
    assert found["seconds"][0] >= 1.4
    assert begun(bus_cluster, "lost") == 1


def test_an_engine_killed_in_the_middle(bus_cluster: Cluster) -> None:
    """Row G5: Salt starts it again, the client's repeat is taken up, and the caller sees nothing
    but the time.
    """
    before = engine_pid(bus_cluster)
    said = published(bus_cluster)
    future = in_background(bus_cluster.job, "alpha", "bustest.call", "echo", {"mark": "killed", "seconds": 6})
    # That it works on it, with which the caller's patience begins.
    wait_for(lambda: published(bus_cluster) > said)
    assert begun(bus_cluster, "killed") == 1
    os.kill(before, signal.SIGKILL)
    found = future.result(90)
    assert found["result"]["caller"] == "alpha"
    assert begun(bus_cluster, "killed") == 2
    assert engine_pid(bus_cluster) != before


def test_no_controller(bus_cluster: Cluster) -> None:
    """The engine is there but does nothing, as if it were not."""
    pid = engine_pid(bus_cluster)
    os.kill(pid, signal.SIGSTOP)
    try:
        found = bus_cluster.job("alpha", "bustest.call", "echo", {"mark": "silent"})
    finally:
        os.kill(pid, signal.SIGCONT)
    error = found["result"]["error"]
    assert error["code"] == "UNAVAILABLE"
    for hint in ("no storage controller", "engines", "saltutil.sync_all", "salt-key", "clocks"):
        assert hint in error["message"]
    assert found["seconds"][0] >= ANSWER_TIMEOUT


def test_a_controller_that_cannot_start_says_why(bus_cluster: Cluster) -> None:
    switch = folder(bus_cluster) / "bustest.broken"
    switch.touch()
    before = engine_pid(bus_cluster)
    os.kill(before, signal.SIGTERM)
    wait_for(lambda: engine_pid(bus_cluster) != before, 60)
    pid = engine_pid(bus_cluster)
    error = bus_cluster.job("alpha", "bustest.call", "echo", {"mark": "broken"})["result"]["error"]
    assert error["code"] == "FAILED_PRECONDITION"
    assert "could not start: the test broke it" in error["message"]
    time.sleep(5)
    assert engine_pid(bus_cluster) == pid, "Salt restarts it again and again"
    assert bus_cluster.log("master").count("the controller cannot start") == 1
    started = len(executed(bus_cluster, "started"))
    switch.unlink()
    wait_for(lambda: len(executed(bus_cluster, "started")) > started)
    assert bus_cluster.job("alpha", "bustest.call", "echo", {"mark": "broken"})["result"]["caller"] == "alpha"


def test_an_id_in_the_event_does_not_count(bus_cluster: Cluster) -> None:
    """The list form lets a minion write any ``id``; the signature alone counts."""
    event = craft(bus_cluster, "alpha", mark="forged-id")
    event["data"]["id"] = "beta"
    assert bus_cluster.job("alpha", "bustest.send", [event])
    wait_for(lambda: begun(bus_cluster, "forged-id") == 1)
    assert executed(bus_cluster, "forged-id")[0]["caller"] == "alpha"


@pytest.mark.parametrize("bare", [True, False])
def test_a_minion_that_says_it_is_another(bus_cluster: Cluster, bare: bool) -> None:
    event = craft(bus_cluster, "beta", signed_by="alpha", mark="forged")
    event["data"]["id"] = "beta"
    assert bus_cluster.job("alpha", "bustest.send", [event], bare=bare)
    # Requests of one minion are taken in the order in which they come.
    assert bus_cluster.job("alpha", "bustest.call", "echo")["result"]["caller"] == "alpha"
    assert executed(bus_cluster, "forged") == []
    assert any("signature is wrong" in line and "'beta'" in line for line in storage_lines(bus_cluster))


def test_both_forms_of_an_honest_event(bus_cluster: Cluster) -> None:
    for bare in (True, False):
        mark = f"honest-{bare}"
        assert bus_cluster.job("alpha", "bustest.send", [craft(bus_cluster, "alpha", mark=mark)], bare=bare)
        wait_for(lambda mark=mark: begun(bus_cluster, mark) == 1)


def test_too_old(bus_cluster: Cluster) -> None:
    event = craft(bus_cluster, "alpha", mark="old", now=time.time() - 1000)
    assert bus_cluster.job("alpha", "bustest.send", [event])
    assert bus_cluster.job("alpha", "bustest.call", "echo")["result"]["caller"] == "alpha"
    assert executed(bus_cluster, "old") == []


def test_a_key_that_is_not_accepted(bus_cluster: Cluster) -> None:
    """Beta's own request, sent by alpha so that the way is open: with beta's key rejected it does
    not count, from then on.
    """
    keys = bus_cluster.master.salt_key_cli(timeout=60)
    # Without a new session key of the master: a minion that is to fetch that while its key is
    # rejected ends.
    stranger = craft(bus_cluster, "gamma", signed_by="alpha", mark="unknown")
    assert keys.run("-y", "--rotate-aes-key=False", "--include-all", "-r", "beta").returncode == 0
    try:
        rejected = craft(bus_cluster, "beta", mark="rejected")
        assert bus_cluster.job("alpha", "bustest.send", [rejected, stranger])
        assert bus_cluster.job("alpha", "bustest.call", "echo")["result"]["caller"] == "alpha"
    finally:
        assert keys.run("-y", "--include-all", "-a", "beta").returncode == 0
    assert executed(bus_cluster, "rejected") == []
    assert executed(bus_cluster, "unknown") == []
    assert any("not accepted" in line and "'beta'" in line for line in storage_lines(bus_cluster))
    accepted = craft(bus_cluster, "beta", mark="accepted")
    assert bus_cluster.job("alpha", "bustest.send", [accepted])
    wait_for(lambda: begun(bus_cluster, "accepted") == 1)


def test_a_flood_of_garbage(bus_cluster: Cluster) -> None:
    before = len(storage_lines(bus_cluster))
    assert bus_cluster.job("beta", "bustest.flood", 10) == 200
    assert bus_cluster.job("alpha", "bustest.call", "echo")["result"]["caller"] == "alpha"
    lines = storage_lines(bus_cluster)
    assert len(lines) - before <= 20
    assert not any("MARKER" in line for line in lines)


def test_two_minions_at_once(bus_cluster: Cluster) -> None:
    seconds = 4
    calls = [
        in_background(bus_cluster.job, minion, "bustest.call", "echo", {"mark": "parallel", "seconds": seconds})
        for minion in ("alpha", "beta")
    ]
    assert {call.result(90)["result"]["caller"] for call in calls} == {"alpha", "beta"}
    ended = [entry for entry in executed(bus_cluster, "parallel") if "ended" in entry]
    assert len(ended) == 2
    assert max(entry["begun_at"] for entry in ended) < min(entry["ended"] for entry in ended)


def test_secrets_are_seen_nowhere(bus_cluster: Cluster) -> None:
    """G9: not in any log at debug level, the job cache, the journal, or on the master's event
    bus.
    """
    marker = f"MARKER{secrets.token_hex(16)}"
    path = folder(bus_cluster) / "bustest.marker"
    path.write_text(marker)
    heard: list[bytes] = []
    stop, listening = threading.Event(), threading.Event()

    def listen() -> None:
        opts = bus_cluster.master.config
        with salt.utils.event.get_event("master", sock_dir=opts["sock_dir"], opts=opts, listen=True) as bus:
            listening.set()
            while not stop.is_set():
                event = bus.get_event(wait=0.5, full=True, auto_reconnect=True)
                if event is not None:
                    heard.append(repr(event).encode())

    thread = threading.Thread(target=listen)
    thread.start()
    assert listening.wait(10)
    digest = bus_cluster.salt("alpha", "bustest.secret_digest")
    assert bus_cluster.call("alpha", "bustest.secret_digest") == digest == hashlib.sha256(marker.encode()).hexdigest()
    time.sleep(1)
    stop.set()
    thread.join()
    path.unlink()
    assert any(b"storage/reply/" in event for event in heard), "the listener heard nothing"
    forms = seen_as(marker)
    assert not [event for event in heard if any(form in event for form in forms)]
    leaks = []
    for file in bus_cluster.root.rglob("*"):
        if file.is_file() and not file.is_symlink():
            content = file.read_bytes()
            leaks += [str(file)] if any(form in content for form in forms) else []
    assert leaks == []


def seen_as(marker: str) -> list[bytes]:
    """Return the marker as it may stand in a file: as it is, in hexadecimal, and in base64 at each
    alignment.
    """
    raw = marker.encode()
    found = [raw, raw.hex().encode()]
    for shift in range(3):
        encoded = base64.b64encode(b"\0" * shift + raw)
        found.append(encoded[4 : len(encoded) // 4 * 4 - 4])
    return found


def test_no_sockets_are_left_open(bus_cluster: Cluster) -> None:
    """Runs late: Salt warns in the log of what was not closed."""
    for who in ("alpha", "beta", "master"):
        warnings = [line for line in bus_cluster.log(who).splitlines() if "unclosed" in line and "salt-run" not in line]
        assert warnings == []


def test_no_minion_beside_salt_call(bus_cluster: Cluster) -> None:
    with bus_cluster.minions["beta"].stopped():
        found = bus_cluster.call("beta", "bustest.call", "echo")
    error = found["result"]["error"]
    assert error["code"] == "FAILED_PRECONDITION"
    assert "no salt-minion daemon of 'beta' runs" in error["message"]
