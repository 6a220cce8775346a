"""os-brick in a child, with the real os-brick."""

from __future__ import annotations

import dataclasses
import logging
import os
import signal
import subprocess
import sys
import threading

import pytest

from saltstorage.consumer.connectors import children
from saltstorage.consumer.connectors.remote import Remote
from saltstorage.consumer.consumer import Consumer
from saltstorage.errors import FailedPreconditionError, StorageError, UnavailableError, UnimplementedError
from tests.unit.consumer.helpers import attach, drop

SECRET = "geheim-CHAP"
ISCSI = {
    "driver_volume_type": "iscsi",
    "data": {
        "target_portal": "127.0.0.1:1",
        "target_iqn": "iqn.2010-10.org.example:none",
        "target_lun": 0,
        "auth_method": "CHAP",
        "auth_username": "db1",
        "auth_password": SECRET,
    },
}
PATHS = {"driver_volume_type": "local", "data": {"device_path": "/dev/null"}}


@pytest.fixture
def outside(config):
    """Settings as a job of Salt has them. At the end no child is left."""
    children.stop()
    yield dataclasses.replace(config, in_process=False)
    children.stop()


@pytest.fixture
def remote(outside):
    return Remote(outside)


def idle():
    return [child for several in children._idle.values() for child in several]


def pid(remote):
    remote.volume_paths(PATHS, use_multipath=False)
    [child] = idle()
    return child.process.pid


def test_a_volume_is_attached_and_detached_by_one_child(outside, file):
    consumer = Consumer(outside)
    found = attach(consumer, file)
    assert consumer.check("data").ok
    [child] = idle()
    assert found.path == consumer.links.path("data")
    drop(consumer)
    assert idle() == [child]
    assert child.alive


def test_the_child_returns_what_this_process_would(remote, config):
    from saltstorage.consumer.connectors.brick import Brick

    assert remote.connector_properties() == Brick(config).connector_properties()


def test_an_attached_volume_needs_no_child(outside, file):
    attach(Consumer(outside), file)
    children.stop()
    consumer = Consumer(outside)
    assert consumer.check("data").ok
    attach(consumer, file)
    consumer.check_resize("data")
    assert idle() == []
    drop(consumer)


def test_an_error_keeps_its_type_and_the_child(remote):
    before = pid(remote)
    with pytest.raises(UnimplementedError, match="no connector for 'nonsense'"):
        remote.connect({"driver_volume_type": "nonsense", "data": {}}, use_multipath=False)
    assert pid(remote) == before


def test_a_dead_child_is_told_and_replaced(remote):
    before = pid(remote)
    [child] = idle()
    os.kill(before, signal.SIGKILL)
    child.process.wait()
    assert pid(remote) != before


def test_a_child_that_dies_at_work_is_told(remote, monkeypatch):
    before = pid(remote)
    [child] = idle()
    ask = child.connection.call

    def die(*args, **kwargs):
        os.kill(before, signal.SIGSTOP)  # so that it is not idle when it dies
        timer = threading.Timer(0.1, os.kill, (before, signal.SIGKILL))
        timer.start()
        return ask(*args, **kwargs)

    monkeypatch.setattr(child.connection, "call", die)
    with pytest.raises(UnavailableError, match="Repeat the call"):
        remote.volume_paths(PATHS, use_multipath=False)
    assert pid(remote) != before


def test_a_child_that_hangs_is_killed(outside, monkeypatch):
    monkeypatch.setattr(children, "PATIENCE", 0.0)
    remote = Remote(dataclasses.replace(outside, step_timeout=0.2))
    before = _started(outside)
    os.kill(before, signal.SIGSTOP)
    with pytest.raises(UnavailableError, match="did not answer within"):
        remote.volume_paths(PATHS, use_multipath=False)
    with pytest.raises(ProcessLookupError):
        os.kill(before, 0)


def _started(config):
    return pid(Remote(config))


def test_no_secret_is_in_the_log_the_arguments_or_the_environment(remote, caplog):
    # Its own logger too: Cinder, in the process of an earlier test, may have given that a level.
    with caplog.at_level(logging.DEBUG), caplog.at_level(logging.DEBUG, "os_brick"), pytest.raises(StorageError) as caught:
        remote.connect(ISCSI, use_multipath=False)
    [child] = idle()
    for name in ("cmdline", "environ"):
        with open(f"/proc/{child.process.pid}/{name}", "rb") as shown:
            assert SECRET.encode() not in shown.read()
    assert SECRET not in str(caught.value) + caplog.text
    # os-brick's own records arrive, at their level.
    assert [record for record in caplog.records if record.name.startswith("os_brick.") and record.levelno == logging.DEBUG]
    child._log(f"30:os_brick.test:login with {SECRET}")
    assert (caplog.records[-1].levelno, caplog.records[-1].getMessage()) == (logging.WARNING, "login with ***")


def test_a_host_without_the_environment_is_told(config, monkeypatch):
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    alone = dataclasses.replace(config, in_process=False, environment="/nowhere")
    with pytest.raises(FailedPreconditionError, match="there is no storage environment in /nowhere"):
        Remote(alone).volume_paths(PATHS, use_multipath=False)


def test_the_child_ends_with_its_parent_even_where_a_fork_of_it_lives_on(outside):
    script = f"""
import os, signal, sys
from saltstorage.consumer.connectors import children
from saltstorage.consumer.connectors.remote import Remote
from saltstorage.consumer.host.config import ConsumerConfig
remote = Remote(ConsumerConfig(**{outside.__dict__!r}))
remote.volume_paths({PATHS!r}, use_multipath=False)
[[child]] = children._idle.values()
fork = os.fork()
if not fork:
    signal.pause()
print(child.process.pid, fork, flush=True)
os._exit(0)
"""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, env=env, text=True) as parent:
        child, fork = map(int, parent.stdout.readline().split())
        fd = os.pidfd_open(child) if os.path.exists(f"/proc/{child}") else None
        try:
            if fd is not None:
                import select

                assert select.select([fd], [], [], 60)[0]
        finally:
            os.kill(fork, signal.SIGKILL)


def test_threads_at_the_same_time_get_a_child_each(remote):
    """A portal that is dead must not hold up the volumes of others."""
    held = children._take(next(iter(children._idle), ())) or None
    assert held is None
    before = pid(remote)
    [key] = children._idle
    first = children._take(key)
    assert pid(remote) != before
    children._give_back(key, first)
    assert len(idle()) == 2


def test_an_unknown_call_is_refused(outside):
    with pytest.raises(StorageError, match="knows no call"):
        children.ask(outside, "look", "connector", {})
