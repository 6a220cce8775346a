"""A long step on a host is reported while it runs.

Slow steps wait for the test: at a pipe, or at a frozen file system.
"""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
import threading

import pytest

from saltstorage import progress
from saltstorage.bus.eventbus import BusLostError
from saltstorage.consumer.connectors import brick
from saltstorage.consumer.consumer import Consumer
from saltstorage.consumer.devices import block, loop, luks
from saltstorage.consumer.filesystems import freeze, mkfs
from saltstorage.consumer.host import commands, heartbeat
from saltstorage.errors import DeadlineExceededError, InternalError
from saltstorage.flow import session
from tests.loops import let_go
from tests.unit.consumer.helpers import GIB, attach, drop


class Reports:
    """Collects reports."""

    def __init__(self):
        self.all = []
        self.changed = threading.Condition()

    def __call__(self, data):
        with self.changed:
            self.all.append(data)
            self.changed.notify_all()

    def of(self, program):
        """Return the reports on a program; on a slow machine there may be reports on others too."""
        return [data for data in self.all if data["op"] == program]

    def wait(self, program, count=1):
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.of(program)) >= count, 60), self.all


class Slow:
    """A command that waits for the test; then it becomes the real command, or another."""

    def __init__(self, folder, command, instead=""):
        self.gate = folder / f"{command}.gate"
        os.mkfifo(self.gate)
        script = folder / command
        script.write_text(f'#!/bin/sh\nread -r _ < {self.gate}\n{instead or f"exec {commands.find(command)}"} "$@"\n')
        script.chmod(0o755)

    def go_on(self):
        self.gate.write_text("\n")


@pytest.fixture
def reports():
    return Reports()


@pytest.fixture
def soon(monkeypatch):
    """Each step that waits for the test counts as long."""
    monkeypatch.setattr(progress, "TELL_AFTER", 0.2)
    monkeypatch.setattr(progress, "TELL_EVERY", 0.05)


@pytest.fixture
def slow(tmp_path, monkeypatch, soon):
    """Return a function that makes a command slow."""
    folder = tmp_path / "bin"
    folder.mkdir()

    def make(command, instead=""):
        made = Slow(folder, command, instead)
        monkeypatch.setattr(commands, "SEARCH", f"{folder}{os.pathsep}{commands.SEARCH}")
        return made

    return make


@contextlib.contextmanager
def in_background(function, *args, **kwargs):
    """Call a function in a thread while the block lasts, then wait for its end.

    The list gets its result or its error.
    """
    results = []

    def call():
        try:
            results.append(function(*args, **kwargs))
        except Exception as error:
            results.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    yield results
    thread.join(90)
    assert not thread.is_alive()


@pytest.fixture
def consumer(config, reports):
    return Consumer(config, tell=reports)


@pytest.fixture
def attached(consumer, file):
    attach(consumer, file)
    yield consumer
    drop(consumer)


def locked(consumer, function, *args, **kwargs):
    """Call a function as a state does: with the lock of the volume."""
    with consumer.lock("data"):
        return function(*args, **kwargs)


def test_the_input_of_a_slow_command_reaches_it(reports, slow):
    """As a passphrase must reach a cryptsetup that is reported."""
    cat = slow("cat")
    passphrase = b"x" * 512

    def read():
        with heartbeat.of_volume("data", "db1", reports, lambda _: None):
            return commands.run("read", ["cat"], timeout=60, input=passphrase)

    with in_background(read) as results:
        reports.wait("cat")
        cat.go_on()
    assert results == [(0, passphrase.decode(), "")]


def test_g11_a_slow_command_is_reported_until_its_end(attached, slow, reports):
    device = attached.device("data")
    program = slow("mkfs.ext4")
    with in_background(locked, attached, mkfs.make, device, "ext4") as results:
        reports.wait("mkfs.ext4", 3)
        program.go_on()
    assert results[0].fstype == "ext4"
    found = reports.of("mkfs.ext4")
    first, *_, last = found
    assert (first["state"], last["state"]) == ("running", "done")
    assert {(data["volume"], data["owner"], data["minion"], data["id"]) for data in found} == {("data", "db1", "db1", first["id"])}
    assert {data["volume_id"] for data in found} == {"11111111-1111-4111-8111-111111111111"}
    assert first["text"].startswith(f"mkfs.ext4 'data' of db1: make a file system of type ext4 on {device} (")
    assert first["seconds"] <= last["seconds"]


def test_a_slow_command_that_fails_is_reported_as_failed(attached, slow, reports):
    program = slow("mkfs.ext4", instead="exit 3;")
    with in_background(locked, attached, mkfs.make, attached.device("data"), "ext4") as results:
        reports.wait("mkfs.ext4")
        program.go_on()
    assert isinstance(results[0], InternalError)
    assert "exit code 3" in str(results[0])
    assert reports.of("mkfs.ext4")[-1]["state"] == "failed"


def test_a_command_that_takes_too_long_is_reported_and_killed(consumer, slow, reports):
    slow("umount")
    with consumer.lock("data"), pytest.raises(DeadlineExceededError, match=r"within 2 s"):
        commands.run("unmount", ["umount", "/nowhere"], timeout=2)
    assert reports.all[-1]["state"] == "failed"


def test_a_short_command_costs_nothing(consumer, reports, monkeypatch):
    """It starts no thread, and makes no report."""
    monkeypatch.setattr(threading.Thread, "start", None)
    with consumer.lock("data"):
        assert commands.run("do nothing", ["true"], timeout=60)[0] == 0
    assert reports.all == []


def test_a_short_step_within_this_process_leaves_nothing(attached, reports):
    locked(attached, block.flush, attached.device("data"))
    assert reports.all == []
    assert "storage-progress" not in [thread.name for thread in threading.enumerate()]


def test_without_a_receiver_nothing_is_watched(config, slow, monkeypatch):
    """As when the controller attaches a volume to move it: its own operation makes the reports."""
    monkeypatch.setattr(heartbeat, "Heartbeat", None)
    umount = slow("umount", instead="exit 0;")
    consumer = Consumer(config)
    with in_background(locked, consumer, commands.run, "unmount", ["umount", "/nowhere"], timeout=90) as results:
        umount.go_on()
    assert results == [(0, "", "")]


def test_a_step_within_another_is_reported_once(consumer, slow, reports):
    umount = slow("umount", instead="exit 0;")

    def both():
        with heartbeat.watch("os-brick", "detach"):
            commands.run("unmount the share", ["umount", "/nowhere"], timeout=90)

    with in_background(locked, consumer, both):
        reports.wait("os-brick", 2)
        umount.go_on()
    assert {data["op"] for data in reports.all} == {"os-brick"}


def test_a_passphrase_is_never_reported(attached, slow, reports, caplog):
    cryptsetup = slow("cryptsetup", instead="cat >&2; exit 4;")
    with (
        caplog.at_level("DEBUG"),
        in_background(locked, attached, luks.make, attached.device("data"), b"geheim", [], timeout=90) as results,
    ):
        reports.wait("cryptsetup")
        cryptsetup.go_on()
    assert isinstance(results[0], InternalError)
    assert reports.of("cryptsetup")[0]["step"] == f"encrypt {attached.device('data')}"
    assert "geheim" not in str(reports.all) + caplog.text


def test_g11_a_long_flush_is_reported(tmp_path, consumer, soon, reports, folder):
    """The storage does not answer: the file system under the device is frozen."""
    below = folder / "below"
    below.mkdir()
    image = folder / "image"
    with image.open("wb") as file:
        file.truncate(GIB)
    subprocess.run(["mkfs.ext4", "-q", str(image)], check=True)
    lower = loop.attach(str(image), "lower")
    subprocess.run(["mount", lower, str(below)], check=True)
    upper = None
    try:
        with (below / "volume").open("wb") as file:
            file.truncate(2**26)
        upper = loop.attach(str(below / "volume"), "upper")
        writer = os.open(upper, os.O_RDWR)
        with contextlib.ExitStack() as held:
            # Closed after the thaw, since closing the device writes all its data.
            held.callback(os.close, writer)
            held.enter_context(freeze.frozen([str(below)], seconds=90, patience=30))
            os.pwrite(writer, b"x" * 2**20, 0)
            with in_background(locked, consumer, block.flush, upper) as results:
                reports.wait("flush", 2)
                held.close()
        assert results == [None]
        assert reports.of("flush")[0]["step"] == f"write the cached data of {upper}"
        assert reports.of("flush")[-1]["state"] == "done"
    finally:
        freeze.thaw([str(below)])
        if upper is not None:
            let_go(upper)
        subprocess.run(["umount", str(below)], check=True)
        let_go(lower)


def test_g11_a_wait_for_a_device_is_reported(consumer, file, soon, reports, monkeypatch):
    """The report names the volume, whose id is not known before it is attached."""
    found = threading.Event()

    class Connector:
        def connect_volume(self, data):
            assert found.wait(60)
            return {"type": "block", "path": str(file)}

        def disconnect_volume(self, *args, **kwargs):
            pass

    monkeypatch.setattr(brick.Brick, "connector", lambda *args: Connector())
    with in_background(attach, consumer, file) as results:
        reports.wait("os-brick")
        found.set()
    assert results[0].path == consumer.links.path("data")
    drop(consumer)
    assert reports.of("os-brick")[0]["text"].startswith("os-brick 'data' of db1: attach, and wait for the device (")
    assert "geheim" not in str(reports.all)


@pytest.mark.parametrize("error", [BusLostError(), PermissionError(), RuntimeError("MARKER")])
def test_a_failing_receiver_stops_nothing(config, slow, error, caplog):
    asked = threading.Event()

    def tell(data):
        asked.set()
        raise error

    umount = slow("umount", instead="exit 0;")
    with in_background(locked, Consumer(config, tell=tell), commands.run, "unmount", ["umount", "/nowhere"], timeout=90) as results:
        assert asked.wait(60)
        umount.go_on()
    assert results == [(0, "", "")]
    assert "MARKER" not in caplog.text


def test_a_host_without_a_minion_works_on(slow, reports, config, tmp_path):
    """With a master, the machine's minion passes reports on; none runs here, and it has no key."""
    tell = session.progress_for({"id": "db1", "sock_dir": str(tmp_path), "pki_dir": str(tmp_path), "ipc_mode": "ipc"})
    asked = threading.Event()

    def ask(data):
        asked.set()
        tell(data)

    umount = slow("umount", instead="exit 0;")
    with in_background(locked, Consumer(config, tell=ask), commands.run, "unmount", ["umount", "/nowhere"], timeout=90) as results:
        assert asked.wait(60)
        umount.go_on()
    assert results == [(0, "", "")]


def test_masterless_reports_go_to_the_terminal(config, slow, monkeypatch):
    stderr = io.StringIO()
    stderr.isatty = lambda: True
    monkeypatch.setattr(sys, "stderr", stderr)
    said = threading.Event()
    on_terminal = session.progress_for({"id": "db1", "file_client": "local"})

    def tell(data):
        on_terminal(data)
        said.set()

    umount = slow("umount", instead="exit 0;")
    with in_background(locked, Consumer(config, tell=tell), commands.run, "unmount /srv", ["umount", "/nowhere"], timeout=90):
        assert said.wait(60)
        umount.go_on()
    first, *_ = stderr.getvalue().splitlines()
    assert first.startswith("umount 'data' of db1: unmount /srv (")
