"""Snapshots with frozen file systems: real ones, and a state that is killed in the middle."""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest

from saltstorage import model
from saltstorage.consumer.filesystems import freeze
from saltstorage.errors import DeadlineExceededError, UnavailableError
from tests import inprocess
from tests.unit.plans.minion import check_result
from tests.unit.plans.test_snapshots import Impatient, done, fail, files, nothing, refused

pytestmark = pytest.mark.root


@pytest.fixture
def mounted(faulty):
    done(faulty.mounted())
    yield faulty
    assert freeze.thaw([faulty.mount_point]) == [], "it was left frozen"


def writer(host, name="written"):
    """Start to write a file, and return what tells that it was written."""
    wrote = threading.Event()

    def write():
        Path(host.mount_point, name).write_text("x")
        wrote.set()

    threading.Thread(target=write, daemon=True).start()
    return wrote


def cut(host, **given):
    return host.state("snapshot_present", "cut", freeze=True, **given)


def found(host):
    return host.service.catalog.snapshot("web1", "cut")


def test_frozen_while_it_is_cut_and_whole(mounted, hooks):
    Path(mounted.mount_point, "before").write_text("before")
    during = {}

    def at_the_cut():
        during["busy"] = subprocess.run(["fsfreeze", "--freeze", mounted.mount_point], capture_output=True, check=False).returncode
        during["wrote"] = writer(mounted)

    hooks["create_snapshot"] = at_the_cut
    hooks["after create_snapshot"] = lambda: during.update(early=during["wrote"].is_set())
    check_result(mounted.state("snapshot_present", "cut", freeze=True, test=True), None)
    assert during == {}
    result = done(cut(mounted))
    assert result["changes"]["cut"]["new"]["frozen"] is True
    assert during["busy"] != 0, "it was not frozen"
    assert during["early"] is False
    assert during["wrote"].wait(10)
    nothing(cut(mounted))
    # Mounted with nothing replayed, it has what was never synced before.
    done(mounted.state("connected", "copy", size=1, source={"snapshot": "cut"}))
    where = mounted.folder / "copy"
    where.mkdir()
    subprocess.run(["mount", "-o", "ro,norecovery,nouuid", str(mounted.folder / "dev" / "copy"), str(where)], check=True)
    try:
        assert (where / "before").read_text() == "before"
        assert not (where / "written").exists()
    finally:
        subprocess.run(["umount", str(where)], check=True)
    done(mounted.state("disconnected", "copy"))


def test_the_backend_is_loaded_before_writers_wait(mounted, monkeypatch):
    """As in a new salt-call: only the things that this run needs are loaded."""
    mounted.close()
    mounted.context.clear()
    loaded, real = [], freeze.frozen

    def frozen(*args, **given):
        kept = mounted.context.get(inprocess.KEY)
        loaded.append(kept is not None and kept.core.backends["local"].loaded() is not None)
        return real(*args, **given)

    monkeypatch.setattr(freeze, "frozen", frozen)
    done(cut(mounted))
    assert loaded == [True]


def test_g6_a_backend_without_snapshots_is_refused_before_writers_wait(mounted, monkeypatch):
    monkeypatch.setattr(mounted.service.core.provider("local"), "capabilities", frozenset)
    monkeypatch.setattr(freeze, "frozen", lambda *args, **given: pytest.fail("it was frozen"))
    refused(cut(mounted), "UNIMPLEMENTED")


def test_not_mounted_is_refused_before_the_cut(faulty):
    done(faulty.state("connected", size=1))
    for test in (True, False):
        refused(cut(faulty, test=test), "FAILED_PRECONDITION", "not mounted")
        refused(faulty.state("snapshot_rotated", "daily", freeze=True, test=test), "FAILED_PRECONDITION", "not mounted")
    assert files(faulty) == ["volume"]


def test_a_freeze_that_fails_is_before_the_cut(mounted):
    subprocess.run(["fsfreeze", "--freeze", mounted.mount_point], check=True)
    try:
        refused(cut(mounted), "FAILED_PRECONDITION", "frozen already")
        assert files(mounted) == ["volume"]
    finally:
        freeze.thaw([mounted.mount_point])


def test_a_cut_that_fails_thaws(mounted, hooks):
    hooks["create_snapshot"] = fail
    refused(cut(mounted), "INTERNAL")
    assert writer(mounted).wait(10)
    assert files(mounted) == ["volume"]


def test_a_snapshot_that_was_not_frozen_until_the_end_is_not_kept(mounted, hooks):
    wrote = {}

    def slow():
        wrote["it"] = writer(mounted)
        assert wrote["it"].wait(30), "thawed when the time was over, while the driver still worked"

    hooks["create_snapshot"] = slow
    refused(cut(mounted, timeout=1), "DEADLINE_EXCEEDED", "timeout")
    assert files(mounted) == ["volume"]
    hooks.clear()
    assert done(cut(mounted))["changes"]["cut"]["new"]["frozen"] is True


@pytest.fixture
def impatient(mounted, monkeypatch):
    """A controller behind a bus: the client stops waiting, and the operation goes on."""
    made = Impatient(mounted.flow.controller)
    monkeypatch.setattr("saltstorage.flow.flow.Flow.controller", made)
    yield mounted
    made.pool.shutdown()


def test_n5_a_snapshot_that_is_taken_when_nobody_waits_any_more_is_not_kept(impatient, hooks):
    service, go_on = impatient.service, threading.Event()
    hooks["create_snapshot"] = lambda: go_on.wait(30)
    refused(cut(impatient, timeout=1), "DEADLINE_EXCEEDED")
    assert service.catalog.snapshot("web1", "cut").state == model.CREATING
    go_on.set()
    impatient.flow.controller.pool.shutdown()
    assert service.catalog.snapshot("web1", "cut") is None
    assert files(impatient) == ["volume"]


def test_n5_a_snapshot_of_which_the_host_hears_too_late_is_not_kept(impatient, monkeypatch):
    """The controller took it in time, and its answer comes when the host waits no more."""
    operations, answered = impatient.service.operations, threading.Event()
    real = operations["snapshot_create"]

    @functools.wraps(real)
    def late(caller, **args):
        reply = real(caller, **args)
        answered.wait(30)
        return reply

    monkeypatch.setitem(operations, "snapshot_create", late)
    refused(cut(impatient, timeout=1), "DEADLINE_EXCEEDED")
    answered.set()
    assert found(impatient) is None


def test_n5_none_is_taken_when_the_time_is_over(mounted, hooks):
    hooks["create_snapshot"] = lambda: pytest.fail("it was taken")
    with pytest.raises(DeadlineExceededError):
        mounted.flow.ask("snapshot_create", {"name": "cut", "volume": "data", "frozen": True, "until": time.time() - 1})
    assert found(mounted) is None


def test_the_master_dies_after_the_cut(mounted, monkeypatch):
    """No answer comes: the file system is thawed, and the snapshot does not count as frozen."""
    real = type(mounted.flow).controller.func

    class Lost:
        def __init__(self, controller):
            self.call_there = controller.call

        def call(self, op, args, timeout=None):
            reply = self.call_there(op, args, timeout)
            if op == "snapshot_create":
                raise UnavailableError("the storage controller was silent")
            return reply

    with monkeypatch.context() as patch:
        patch.setattr("saltstorage.flow.flow.Flow.controller", property(lambda flow: Lost(real(flow))))
        refused(cut(mounted), "UNAVAILABLE")
    assert writer(mounted).wait(10)
    first = found(mounted)
    assert (first.state, first.frozen) == (model.AVAILABLE, None)
    new = done(cut(mounted))["changes"]["cut"]["new"]
    assert new["id"] != first.id
    assert found(mounted).frozen is True
    assert files(mounted) == ["snapshot", "volume"]


def test_the_state_is_killed_in_the_cut(mounted, hooks):
    mounted.close()
    mounted.context.clear()
    reached, told = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            hooks["create_snapshot"] = lambda: (os.write(told, b"x"), time.sleep(600))
            cut(mounted, timeout=500)
        finally:
            os._exit(1)
    assert os.read(reached, 1) == b"x"
    for pipe in (reached, told):
        os.close(pipe)
    wrote = writer(mounted)
    assert not wrote.wait(0.5), "it was not frozen"
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert wrote.wait(20)
    assert found(mounted).state == model.CREATING
    assert done(cut(mounted))["changes"]["cut"]["new"]["frozen"] is True
    assert files(mounted) == ["snapshot", "volume"]


def test_one_that_was_taken_otherwise_is_refused(mounted):
    done(mounted.state("snapshot_present", "cut"))
    for test in (True, False):
        refused(cut(mounted, test=test), "ALREADY_EXISTS", "in use")
    done(mounted.state("snapshot_absent", "cut"))
    done(cut(mounted))
    nothing(mounted.state("snapshot_present", "cut"))


def test_rotated_removes_snapshots_that_were_never_confirmed(mounted):
    done(mounted.state("snapshot_rotated", "daily", freeze=True))
    catalog = mounted.service.catalog
    [broken] = catalog.snapshots()
    assert broken.frozen is True
    catalog.update(broken, frozen=None, name="daily-broken")
    result = done(mounted.state("snapshot_rotated", "daily", freeze=True))
    assert result["changes"]["daily-broken"]["new"] is None
    [new] = catalog.snapshots()
    assert new.frozen is True
    nothing(mounted.state("snapshot_rotated", "daily", freeze=True))
