"""All that a driver returns is stored, and seen by its next call."""

from __future__ import annotations

import http.client
import socket
import ssl
import urllib.error
import uuid
from pathlib import Path

import pytest
from oslo_config import cfg

from saltstorage import errors
from saltstorage.controller.cinder.errors import translate
from saltstorage.providers import ProviderSnapshot

from .backends import host, new

PROBE = "tests.unit.controller.cinder.probe_driver.ProbeDriver"


def volume_after(call: str, **metadata: str) -> dict[str, object]:
    return {
        "metadata": {"by": call, "array": "one", **metadata},
        "provider_location": f"location {call}",
        "provider_id": f"id {call}",
        "provider_auth": f"CHAP {call} s3cret-{call}",
        "replication_status": "enabled",
        "replication_driver_data": f'{{"call": "{call}"}}',
    }


SNAPSHOT = {"metadata": {"by": "snapshot"}, "provider_location": "location snapshot", "provider_id": "id snapshot"}


def test_b4_each_call_sees_what_the_one_before_returned(make):
    provider = make(PROBE)
    seen = provider.driver.seen
    volume, clone, copy = new(), new(), new()
    provider.create_volume(volume)
    snapshot = ProviderSnapshot(id=str(uuid.uuid4()), volume_id=volume.id, size=1)
    provider.create_snapshot(snapshot)
    assert seen["snapshot"] == volume_after("create")
    provider.create_volume(copy, source=snapshot)
    assert seen["from_snapshot"] == SNAPSHOT
    provider.create_volume(clone, source=volume)
    assert seen["clone"] == volume_after("create")
    provider.connect(volume, volume.id, host("h1"))
    assert seen["export"] == volume_after("create")
    assert seen["connect"] == {**volume_after("export"), "admin_metadata": {"internal": "export"}}
    provider.restore(volume)
    assert seen["ensure"] == volume_after("export", mapped="yes")
    provider.disconnect(volume, volume.id, host("h1"), last=True)
    provider.extend_volume(volume, 2)
    assert seen["extend"] == volume_after("ensure")
    provider.extend_volume(copy, 2)
    assert seen["extend"] == volume_after("from_snapshot")
    provider.delete_snapshot(snapshot)
    assert seen["delete_snapshot"] == SNAPSHOT
    for each, call in ((clone, "clone"), (copy, "from_snapshot"), (volume, "ensure")):
        provider.delete_volume(each)
        assert seen["delete"] == volume_after(call)


def test_files_of_locks_go_with_their_volume(make):
    provider = make(PROBE)
    volume = new()
    provider.create_volume(volume)

    def locks() -> list[str]:
        # The folder of the first backend that this process has loaded.
        folder = Path(cfg.CONF.oslo_concurrency.lock_path)
        return [path.name for path in folder.iterdir() if volume.id in path.name]

    assert locks()
    provider.delete_volume(volume)
    assert locks() == []


def test_a_backend_without_pools_is_down(make):
    with pytest.raises(errors.UnavailableError, match="its driver found no pool"):
        make("tests.unit.controller.cinder.probe_driver.NoPoolDriver")


def test_b5_a_backend_that_reports_no_capacity_is_down(make, monkeypatch):
    driver = "tests.unit.controller.cinder.probe_driver.EmptyDriver"
    with pytest.raises(errors.UnavailableError, match="reports a capacity of 0, as some do that cannot reach their array"):
        make(driver)
    from . import probe_driver

    monkeypatch.setattr(probe_driver.EmptyDriver, "there", True)
    provider = make(driver)
    monkeypatch.setattr(probe_driver.EmptyDriver, "there", False)
    with pytest.raises(errors.UnavailableError, match="could not reach the array of"):
        provider.stats()


def test_the_fault_of_a_driver_is_not_hidden_by_cinderlib(make):
    with pytest.raises(errors.StorageError, match="'NoneType' object has no attribute 'login'") as caught:
        make("tests.unit.controller.cinder.probe_driver.NoneDriver")
    assert "setup" not in str(caught.value)


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (urllib.error.URLError(ConnectionRefusedError(111, "Connection refused")), "UNAVAILABLE", "Connection refused"),
        (urllib.error.URLError("unknown url type: htp"), "UNAVAILABLE", "unknown url type"),
        (urllib.error.URLError(socket.gaierror(-2, "Name or service not known")), "UNAVAILABLE", "Name or service not known"),
        (socket.gaierror(-2, "Name or service not known"), "UNAVAILABLE", "Name or service not known"),
        (http.client.RemoteDisconnected("Remote end closed connection"), "UNAVAILABLE", "Remote end closed connection"),
        (http.client.BadStatusLine("garbage"), "UNAVAILABLE", "garbage"),
        (ssl.SSLCertVerificationError(1, "self-signed certificate"), "FAILED_PRECONDITION", "certificate is not trusted"),
        (ssl.SSLError(1, "wrong version number"), "UNAVAILABLE", "wrong version number"),
        (TimeoutError("timed out"), "UNAVAILABLE", "timed out"),
        (ConnectionResetError(104, "Connection reset by peer"), "UNAVAILABLE", "Connection reset"),
        (OSError("no configuration file for the array"), "INTERNAL", "no configuration file for the array"),
        (FileNotFoundError(2, "No such file or directory", "/etc/storpool.conf"), "FAILED_PRECONDITION", "/etc/storpool.conf"),
    ],
)
def test_b5_the_cause_is_that_of_the_network(error, code, words):
    told = translate(error, "load the backend 'a'")
    assert told.code == code
    assert words in told.message
