"""The engine's part in keeping exports: a restarted target daemon gets its targets back."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from saltstorage.controller.access.locks import volume_key
from saltstorage.controller.catalog import paging
from saltstorage.controller.cinder.provider import CinderlibProvider
from saltstorage.controller.operations.core import Caller
from saltstorage.controller.service import Service
from saltstorage.errors import UnavailableError
from saltstorage.spec import VolumeSpec
from tests import needs
from tests.tgtd import Host, Tgtd

pytestmark = pytest.mark.root
TIMEOUT = 60


def test_r16_targets_come_back_after_tgtd_alone_was_restarted(opts, tmp_path, short_dir, free_port, monkeypatch):
    """R16: on demand, while the controller runs; also when tgtd was down for a while."""
    needs.programs("tgtd", "iscsi-inq")
    tgtd, host = Tgtd(short_dir, free_port), Host("db1", free_port)
    monkeypatch.setenv("TGT_IPC_SOCKET", tgtd.socket)
    opts["storage"]["retry_interval"] = 1
    opts["storage"]["backends"] = {
        "san": {
            "volume_driver": "saltstorage.drivers.file_iscsi.FileISCSIDriver",
            "file_driver_path": str(tmp_path / "volumes"),
            "volumes_dir": str(tmp_path / "targets"),
            "target_ip_address": "127.0.0.1",
            "target_port": free_port,
        }
    }
    tgtd.start()
    service = Service(opts)
    try:
        # Cinder is imported first, which takes long on a busy machine.
        service.start(patience=TIMEOUT)
        caller = Caller("db1")
        service.volumes.create(caller, name="data", spec=VolumeSpec(size=1))
        connection = service.connections.connect(caller, name="data", connector=host.connector)
        info = connection["connection_info"]
        assert host.size(info) == 2**30
        tgtd.kill()
        # so that the engine meets it while it is down
        time.sleep(2 * opts["storage"]["retry_interval"])
        tgtd.start()
        deadline = time.monotonic() + TIMEOUT
        while host.size(info) is None:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert host.size(info) == 2**30
    finally:
        service.close()
        tgtd.kill()


def test_r16_the_start_restores_each_export_once_and_reads_the_catalog_in_parts(pair, monkeypatch):
    """R16, however many there are."""
    connector = {"host": "web1", "multipath": False}
    ids = {}
    for name, backend in (("a", "local"), ("b", "other"), ("c", "local"), ("d", "local"), ("e", "local")):
        ids[name] = pair.execute("create", {"name": name, "size": 1, "backend": backend}, "web1")["volume"]["id"]
        if name != "c":
            pair.execute("connect", {"name": name, "connector": connector}, "web1")
    provider = pair.core.provider("local")
    restored, restore = [], provider.restore
    monkeypatch.setattr(provider, "restore", lambda volume: (restored.append(volume.id), restore(volume)))
    for chunk in (1, 2, 3, 500):
        monkeypatch.setattr(paging, "CHUNK", chunk)
        pair.recovery.run("local")
        assert restored == [ids["a"], ids["d"], ids["e"]]
        del restored[:]


def test_r16_only_exports_that_failed_are_tried_again(pair, monkeypatch, caplog):
    """R16: a lock that another process holds, an address that is not there yet, and a fault of a
    driver; each logged once.
    """
    connector = {"host": "web1", "multipath": False}
    ids = {}
    for name in ("whole", "locked", "early", "faulty", "left"):
        ids[name] = pair.execute("create", {"name": name, "size": 1}, "web1")["volume"]["id"]
        pair.execute("connect", {"name": name, "connector": connector}, "web1")
    faults = {
        ids["early"]: UnavailableError("the address is not there yet"),
        ids["faulty"]: RuntimeError("s3cret"),
        ids["left"]: UnavailableError("the array is busy"),
    }
    tried = []

    def restore(volume):
        tried.append(volume.id)
        if volume.id in faults:
            raise faults[volume.id]

    monkeypatch.setattr(pair.core.provider("local"), "restore", restore)
    with pair.core.locks.held(volume_key("web1", "locked"), why="work elsewhere"), ThreadPoolExecutor(1) as engine:
        assert engine.submit(pair.recovery.run, "local").result() is True
    assert sorted(tried) == sorted({*ids.values()} - {ids["locked"]})

    del tried[:]
    faults[ids["early"]] = UnavailableError("the address is still not there")
    pair.execute("disconnect", {"name": "left", "host": "web1"}, "web1")
    for _ in range(3):
        assert pair.recovery.restore_failed("local") is True
    assert tried.count(ids["locked"]) == 1
    assert tried.count(ids["early"]) == tried.count(ids["faulty"]) == 3
    assert not {ids["whole"], ids["left"]} & {*tried}

    faults.clear()
    assert pair.recovery.restore_failed("local") is False
    del tried[:]
    assert pair.recovery.restore_failed("local") is False
    assert tried == []
    text = caplog.text
    assert [text.count(words) for words in ("not there yet", "still not there", "array is busy", "work elsewhere")] == [1, 1, 1, 1]
    assert text.count("RuntimeError") == 1
    assert "s3cret" not in text
    assert pair.recovery.restore_failed("other") is False


def test_r16_an_engine_tries_again_until_the_export_is_restored(service, opts, monkeypatch):
    """R16: an address that comes up after the master; then no export needs the engine any more."""
    service.execute("create", {"name": "data", "size": 1}, "web1")
    service.execute("connect", {"name": "data", "connector": {"host": "web1", "multipath": False}}, "web1")
    service.close()
    tries, restored, restore = [], threading.Event(), CinderlibProvider.restore

    def late(provider, volume):
        tries.append(volume.id)
        if len(tries) < 3:
            raise UnavailableError("the address is not there yet")
        restore(provider, volume)
        restored.set()

    monkeypatch.setattr(CinderlibProvider, "restore", late)
    engine = Service(opts)
    object.__setattr__(engine.config, "retry_interval", 0.05)
    before = {*threading.enumerate()}
    try:
        engine.start()
        watching = [thread for thread in threading.enumerate() if thread not in before and thread.name == "storage-local"]
        assert restored.wait(TIMEOUT)
        for thread in watching:
            thread.join(TIMEOUT)
            assert not thread.is_alive()
        assert len(tries) == 3
    finally:
        engine.close()
