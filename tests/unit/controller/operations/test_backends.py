"""Backends that are slow to load, hang, or fail: they disturb neither the others nor their own
recovery.
"""

import logging
import subprocess
import threading
import time

import pytest

from saltstorage import model
from saltstorage.controller import reports
from saltstorage.controller.catalog.database import open_database
from saltstorage.controller.operations import backends as backends_module
from saltstorage.controller.operations.backends import Backend, Backends
from saltstorage.controller.service import Service
from saltstorage.errors import InternalError, StorageError, UnavailableError


class Slow:
    """A provider that loads when the test lets it."""

    def __init__(self):
        self.gate = threading.Event()
        self.error = None
        self.loads = 0
        self.intact = lambda: None
        self.looks = 0
        self.array = None

    def load(self):
        self.loads += 1
        assert self.gate.wait(20)
        if self.error is not None:
            raise self.error

    def capabilities(self):
        return frozenset()

    def stats(self):
        self.looks += 1
        if self.array is not None:
            self.array()
        return

    def exports_intact(self):
        return self.intact()

    def close(self):
        pass


@pytest.fixture
def slow(service):
    """A provider, and the backends with it alone, tried as often as possible."""
    provider = Slow()
    backends = Backends(service.config, service.catalog)
    backends._backends["local"] = Backend(service.config.backends["local"], lambda _entry: provider, 0)
    object.__setattr__(service.config, "retry_interval", 0.05)
    yield provider, backends
    provider.gate.set()


@pytest.fixture
def watch(slow):
    """A function that watches the backends as the engine does, until the test ends."""
    stop, threads = threading.Event(), []

    def start(when_up=lambda name: False, restore=lambda name: False):
        threads.extend(slow[1].watch(when_up, restore, stop))
        return threads

    yield start
    stop.set()
    slow[0].gate.set()
    for thread in threads:
        thread.join(10)


def test_a_request_right_after_a_restart_waits_for_the_load(slow, watch):
    provider, backends = slow
    watch()
    threading.Timer(0.3, provider.gate.set).start()
    assert backends.provider("local") is provider
    assert provider.loads == 1


def test_requests_do_not_wait_for_a_load_that_hangs(slow, watch, monkeypatch):
    monkeypatch.setattr(backends_module, "WATCHED_LOAD_TIMEOUT", 0.3)
    provider, backends = slow
    watch()
    waited, wait = [], backends["local"]._first_load_ended.wait
    monkeypatch.setattr(backends["local"]._first_load_ended, "wait", lambda seconds: (waited.append(seconds), wait(seconds)))
    for _ in range(100):
        with pytest.raises(UnavailableError, match="still being loaded"):
            backends.provider("local")
    assert waited[0] <= 0.3
    assert waited[1:] == [0.0] * 99, "the patience is everybody's together"
    assert provider.loads == 1


def test_without_an_engine_the_caller_loads_and_waits(slow):
    provider, backends = slow
    threading.Timer(0.3, provider.gate.set).start()
    assert backends.provider("local") is provider


def test_each_caller_gets_an_error_of_its_own(slow):
    provider, backends = slow
    backends["local"]._retry_interval = 60
    provider.gate.set()
    provider.error = UnavailableError("no array", details={"a": 1})
    raised = []
    for _ in range(3):
        with pytest.raises(UnavailableError, match="'local' is down: no array") as caught:
            backends.provider("local")
        raised.append(caught.value)
    assert provider.loads == 1
    assert len({id(error) for error in raised}) == 3


def test_a_fault_of_a_driver_is_logged_without_its_words(slow, caplog):
    caplog.set_level(logging.DEBUG)
    provider, backends = slow
    provider.gate.set()
    provider.error = RuntimeError("login with s3cret")
    with pytest.raises(InternalError, match="RuntimeError") as caught:
        backends.provider("local")
    assert "s3cret" not in caplog.text + str(caught.value)
    assert caught.value.__cause__ is None
    assert "RuntimeError" in caplog.text


def test_the_watcher_lives_on_when_recovery_fails(slow, watch, service, caplog):
    provider, _backends = slow
    provider.gate.set()
    done, tries = threading.Event(), []

    def when_up(name):
        tries.append(name)
        if len(tries) == 1:
            raise OSError(5, "s3cret")
        if len(tries) == 2:
            raise UnavailableError("the catalog does not answer")
        done.set()

    watch(when_up)
    assert done.wait(10)
    assert tries == ["local"] * 3
    assert service.catalog.backend_states()["local"]["state"] == "up"


def eventually(condition):
    """Wait until something holds that threads bring about."""
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_b5_up_means_that_the_array_answered_lately(slow, watch, service, caplog):
    provider, backends = slow
    backend = backends["local"]
    watch()
    assert (backend.look().state, backend.look().checked) == ("unknown", None)
    assert "being loaded, since 0 s" in backend.look().error
    provider.gate.set()
    eventually(lambda: backend.look().state == "up")

    def gone():
        raise UnavailableError("no route to the array")

    provider.array = gone
    eventually(lambda: backend.look().state == "down")
    assert "no route to the array" in backend.look().error
    looks = provider.looks
    eventually(lambda: provider.looks > looks + 2)
    assert caplog.text.count("no route to the array") == 1, "told once"
    assert service.catalog.backend_states()["local"]["state"] == "down"
    provider.array = None
    eventually(lambda: backend.look().state == "up")


def test_b5_a_driver_that_hangs_is_not_up_for_ever(slow, watch, monkeypatch):
    provider, backends = slow
    monkeypatch.setattr(backends_module, "LOAD_TIMEOUT", 0.2)
    backends["local"]._retry_interval = 0.05
    provider.gate.set()
    hangs = threading.Event()
    provider.array = lambda: hangs.wait(30)
    watch()
    eventually(lambda: backends["local"].look().state == "up")
    eventually(lambda: backends["local"].look().state == "unknown")
    assert "has not answered for" in backends["local"].look().error
    assert backends["local"].look().checked is not None
    hangs.set()
    eventually(lambda: backends["local"].look().state == "up")


def test_b5_a_controller_that_ended_leaves_no_backend_up(opts):
    first = Service(opts)
    first.start()
    eventually(lambda: first.backends()[0]["state"] == "up")
    first.close()
    later = Service(opts)
    [row] = later.backends()
    later.close()
    assert row["state"] == "unknown"
    assert "no storage controller runs here; when one last looked, it was up" in row["error"]
    shown = reports.backend(row)
    assert shown["checked"].endswith("Z")
    assert 0 <= shown["age_seconds"] < 60


@pytest.mark.root
def test_b5_a_folder_whose_file_system_is_gone_is_down(opts, tmp_path):
    folder = tmp_path / "volumes"
    folder.mkdir(mode=0o700)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=0700,size=2G", "none", str(folder)], check=True)
    opts["storage"]["retry_interval"] = 1
    service = Service(opts)
    try:
        service.start()
        eventually(lambda: service.backends()[0]["state"] == "up")
        subprocess.run(["umount", str(folder)], check=True)
        eventually(lambda: service.backends()[0]["state"] == "down")
        assert "another file system" in service.backends()[0]["error"]
        with pytest.raises(StorageError, match="another file system"):
            service.execute("create", {"name": "data", "size": 1}, "web1")
        assert not list(folder.iterdir())
    finally:
        service.close()
        subprocess.run(["umount", str(folder)], check=False, capture_output=True)


def test_the_end_waits_for_a_recovery_that_is_under_way(service, monkeypatch):
    """The recovery needs the catalog, which is closed last."""
    begun, go_on, ended = threading.Event(), threading.Event(), []

    def run(name):
        begun.set()
        assert go_on.wait(20)
        ended.append(service.catalog.volumes())

    monkeypatch.setattr(service.recovery, "run", run)
    monkeypatch.setattr(service.catalog, "close", lambda close=service.catalog.close: (ended.append("closed"), close()))
    service.start()
    assert begun.wait(20)
    threading.Timer(0.1, go_on.set).start()
    service.close()
    assert ended == [[], "closed"]


def test_exports_that_are_left_are_tried_until_they_are_restored_and_then_the_watch_ends(slow, watch):
    """Also with a backend that looks after its exports itself."""
    provider, _backends = slow
    provider.gate.set()
    calls, results = [], iter([True, True, False])
    (thread,) = watch(lambda name: calls.append("up") or True, lambda name: calls.append("restore") or next(results))
    thread.join(10)
    assert not thread.is_alive()
    assert calls == ["up", "restore", "restore", "restore"]


def test_a_loss_is_recovered_from_and_told_once(slow, watch, caplog):
    provider, _backends = slow
    provider.gate.set()
    answers = iter([True, False, False, True, False, True, None])
    provider.intact = lambda: next(answers)
    ups, restores = [], []
    (thread,) = watch(lambda name: ups.append(name) or False, lambda name: restores.append(name) or False)
    thread.join(10)
    assert not thread.is_alive()
    assert len(ups) == 1 + 3
    assert restores == []
    assert caplog.text.count("has lost exports") == 2, "once for each loss"


def test_a_daemon_that_stays_down_is_told_once(slow, watch, caplog):
    """When the daemon is up again, exports are restored that the cut off recovery may have left."""
    provider, _backends = slow
    provider.gate.set()
    answers = iter(["down", "down", "down", False, True, "down", None])

    def intact():
        answer = next(answers)
        if answer == "down":
            raise UnavailableError("nobody answers")
        return answer

    provider.intact = intact
    left = iter([False, True])
    restores = []
    (thread,) = watch(lambda name: next(left), lambda name: restores.append(name) or False)
    thread.join(10)
    assert not thread.is_alive()
    assert caplog.text.count("nobody answers") == 2
    assert len(restores) == 5, "after each failed try, and after the recovery that left something"


def test_recovery_goes_on_after_a_fault(service, monkeypatch, caplog):
    for name in ("one", "two"):
        service.execute("create", {"name": name, "size": 1}, "web1")
    for volume in service.catalog.volumes(owner="web1"):
        service.catalog.update(volume, state=model.EXTENDING)
    real, tried = service.volumes.settle, []

    def settle(volume):
        tried.append(volume.name)
        if len(tried) == 1:
            raise RuntimeError("s3cret")
        return real(volume)

    monkeypatch.setattr(service.volumes, "settle", settle)
    service.recovery.run("local")
    assert sorted(tried) == ["one", "two"]
    assert sorted(v.state for v in service.catalog.volumes(owner="web1")) == sorted([model.AVAILABLE, model.EXTENDING])
    assert "s3cret" not in caplog.text


def test_errors_of_the_database_do_not_show_values(tmp_path):
    import sqlalchemy

    engine = open_database(f"sqlite:///{tmp_path}/c.sqlite")
    with pytest.raises(sqlalchemy.exc.OperationalError) as caught, engine.begin() as connection:
        connection.execute(sqlalchemy.text("SELECT * FROM nothing WHERE a = :a"), {"a": "s3cret"})
    assert "s3cret" not in str(caught.value)
    engine.dispose()
