"""The engine's part in keeping exports: a target daemon that was restarted gets its targets back."""

from __future__ import annotations

import shutil
import time

import pytest

from saltstorage.controller import paging
from saltstorage.controller.core import Caller
from saltstorage.controller.service import Service
from tests.tgtd import Host, Tgtd

pytestmark = pytest.mark.root
TIMEOUT = 60


def test_r16_targets_come_back_after_tgtd_alone_was_restarted(opts, tmp_path, short_dir, free_port, monkeypatch):
    """R16: on demand, while the controller runs; also when tgtd was down for a while."""
    if not shutil.which("tgtd") or not shutil.which("iscsi-inq"):
        pytest.skip("needs tgt and libiscsi-bin")
    tgtd, host = Tgtd(short_dir, free_port), Host("db1", free_port)
    monkeypatch.setenv("TGT_IPC_SOCKET", tgtd.socket)
    opts["storage"]["retry_interval"] = 1
    opts["storage"]["backends"] = {
        "san": {
            "volume_driver": "saltstorage.controller.drivers.file_iscsi.FileISCSIDriver",
            "file_driver_path": str(tmp_path / "volumes"),
            "volumes_dir": str(tmp_path / "targets"),
            "target_ip_address": "127.0.0.1",
            "target_port": free_port,
        }
    }
    tgtd.start()
    service = Service(opts)
    try:
        service.start()
        caller = Caller("db1")
        service.volumes.create(caller, name="data", size=1)
        connection = service.connections.connect(caller, name="data", connector=host.connector)
        info = connection["connection_info"]
        assert host.size(info) == 2**30
        tgtd.kill()
        time.sleep(2 * opts["storage"]["retry_interval"])  # so that the engine meets it while it is down
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
