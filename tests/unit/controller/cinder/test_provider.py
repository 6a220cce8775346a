"""The cinderlib provider around a driver that records its calls, and fails on demand."""

from __future__ import annotations

import contextlib
import errno
import sqlite3
import tempfile
import uuid
from pathlib import Path

import pytest
from cinder import exception

from saltstorage import errors
from saltstorage.providers import Capability, ProviderSnapshot, ProviderVolume

from .backends import FILE, files, host, new


def test_one_of_two_hosts_leaves(make, rows):
    """U9, R14, trap 2: the export goes with the last host."""
    provider = make()
    driver = provider.driver
    volume = new()
    provider.create_volume(volume)
    for name in ("h1", "h2"):
        provider.connect(volume, str(uuid.uuid5(uuid.UUID(volume.id), name)), host(name))
    assert driver.counted == [1, 2], "drivers count the attachments, the new one included"
    driver.calls.clear()
    provider.disconnect(volume, str(uuid.uuid5(uuid.UUID(volume.id), "h1")), host("h1"), last=False)
    assert driver.calls == ["terminate_connection h1"]
    assert driver.exported == {volume.id}
    provider.disconnect(volume, str(uuid.uuid5(uuid.UUID(volume.id), "h2")), host("h2"), last=True)
    assert driver.calls == ["terminate_connection h1", "terminate_connection h2", "remove_export"]
    assert driver.exported == set()
    assert rows(volume) == (1, 0)
    provider.delete_volume(volume)
    assert rows(volume) == (0, 0)


def test_export_stays_while_another_connection_is_known(make):
    """Even when the caller says that it was the last."""
    provider = make()
    volume = new()
    provider.create_volume(volume)
    one, two = str(uuid.uuid4()), str(uuid.uuid4())
    provider.connect(volume, one, host("h1"))
    provider.connect(volume, two, host("h2"))
    provider.disconnect(volume, one, host("h1"), last=True)
    assert provider.driver.exported == {volume.id}


@pytest.mark.parametrize(("shared", "kept"), [(True, True), (False, False), (None, False), ({"driver_volume_type": "fc"}, False)])
def test_true_from_terminate_connection_keeps_the_export(make, shared, kept):
    provider = make()
    volume = new()
    provider.create_volume(volume)
    provider.connect(volume, volume.id, host("h1"))
    provider.driver.shared = shared
    provider.disconnect(volume, volume.id, host("h1"), last=True)
    assert (volume.id in provider.driver.exported) is kept


@pytest.mark.parametrize("step", ["create_export", "initialize_connection"])
def test_failed_second_connect_leaves_the_first_alone(make, rows, step):
    """C9, R14."""
    provider = make()
    driver = provider.driver
    volume = new()
    provider.create_volume(volume)
    provider.connect(volume, volume.id, host("h1"))
    driver.calls.clear()
    driver.fail[step] = RuntimeError("array said no")
    with pytest.raises(errors.InternalError, match="array said no"):
        provider.connect(volume, str(uuid.uuid4()), host("h2"))
    assert driver.exported == {volume.id}
    assert "remove_export" not in driver.calls
    assert "terminate_connection h1" not in driver.calls
    assert rows(volume) == (1, 1)


def test_failed_first_connect_leaves_nothing(make, rows):
    provider = make()
    driver = provider.driver
    volume = new()
    provider.create_volume(volume)
    driver.fail["initialize_connection"] = RuntimeError("array said no")
    with pytest.raises(errors.InternalError):
        provider.connect(volume, volume.id, host("h1"))
    assert driver.exported == set()
    assert rows(volume) == (1, 0)
    assert provider.connect(volume, volume.id, host("h1"))["data"]["target_lun"] == 1


def test_a_failed_connect_that_cannot_be_undone_is_remembered(make, rows):
    """The host may have access; a later disconnect has to remove it."""
    provider = make()
    driver = provider.driver
    volume = new()
    provider.create_volume(volume)
    driver.fail["initialize_connection"] = RuntimeError("array said no")
    driver.fail["terminate_connection h1"] = RuntimeError("array is gone")
    with pytest.raises(errors.InternalError, match="array said no"):
        provider.connect(volume, volume.id, host("h1"))
    assert rows(volume) == (1, 1)
    driver.calls.clear()
    provider.disconnect(volume, volume.id, host("h1"), last=True)
    assert driver.calls == ["terminate_connection h1", "remove_export"]
    assert driver.exported == set()
    assert rows(volume) == (1, 0)


def test_failed_repetition_keeps_the_connection(make, rows):
    provider = make()
    volume = new()
    provider.create_volume(volume)
    provider.connect(volume, volume.id, host("h1"))
    provider.driver.fail["initialize_connection"] = RuntimeError("array said no")
    with pytest.raises(errors.InternalError):
        provider.connect(volume, volume.id, host("h1"))
    assert provider.driver.exported == {volume.id}
    assert rows(volume) == (1, 1)


@pytest.mark.parametrize("step", ["terminate_connection h1", "remove_export"])
def test_failed_disconnect_can_be_repeated(make, rows, step):
    """U11: the row goes last, so a repetition does all of it again."""
    provider = make()
    driver = provider.driver
    volume = new()
    provider.create_volume(volume)
    provider.connect(volume, volume.id, host("h1"))
    driver.fail[step] = RuntimeError("array said no")
    with pytest.raises(errors.InternalError):
        provider.disconnect(volume, volume.id, host("h1"), last=True)
    assert rows(volume) == (1, 1)
    provider.disconnect(volume, volume.id, host("h1"), last=True)
    assert driver.exported == set()
    assert rows(volume) == (1, 0)


def test_disconnect_uses_the_connector_of_the_connect(make):
    """R8, R17: the host may have another initiator by now, or be gone."""
    provider = make()
    volume = new()
    provider.create_volume(volume)
    provider.connect(volume, volume.id, host("then"))
    provider.disconnect(volume, volume.id, {"host": "then", "initiator": "now"}, last=True)
    assert "terminate_connection then" in provider.driver.calls


def test_failed_create_leaves_nothing(make, rows):
    """P12, trap 5: no row in error, no artifact."""
    provider = make()
    volume = new()
    provider.driver.fail["create_volume"] = OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(errors.ResourceExhaustedError):
        provider.create_volume(volume)
    assert rows(volume) == (0, 0)
    assert files(provider) == []
    assert provider.create_volume(volume) == 1


def test_failed_create_that_cannot_be_cleaned_up_is_remembered(make, rows):
    provider = make()
    driver = provider.driver
    volume = new()
    driver.fail["create_volume"] = RuntimeError("array said no")
    driver.fail["delete_volume"] = RuntimeError("array is gone")
    with pytest.raises(errors.InternalError, match="array said no"):
        provider.create_volume(volume)
    assert rows(volume) == (1, 0)
    assert provider.volume_size(volume) is None
    assert files(provider) == [f"volume-{volume.id}"]
    assert provider.delete_volume(volume) is True
    assert files(provider) == []
    assert rows(volume) == (0, 0)


def test_a_lost_export_keeps_no_volume_from_deletion(make, rows):
    """Drivers say that the volume is not found when only its export is missing."""
    provider = make()
    volume = new()
    provider.create_volume(volume)
    provider.driver.fail["remove_export"] = exception.VolumeNotFound(volume_id=volume.id)
    assert provider.delete_volume(volume) is True
    assert files(provider) == []
    assert rows(volume) == (0, 0)


def test_g6_a_backend_that_cannot_revert(make, monkeypatch):
    """Row G6, even with a method of the driver."""
    provider = make()
    monkeypatch.setattr(provider, "_capabilities", provider.capabilities() - {Capability.REVERT})
    volume = new()
    with pytest.raises(errors.UnimplementedError, match="cannot set volumes back"):
        provider.revert_volume(volume, ProviderSnapshot(id=volume.id, volume_id=volume.id, size=1))


def test_failed_snapshot_leaves_nothing(make):
    """N6, N7."""
    provider = make()
    volume = new()
    provider.create_volume(volume)
    snapshot = ProviderSnapshot(id=str(uuid.uuid4()), volume_id=volume.id, size=1)
    provider.driver.fail["create_snapshot"] = RuntimeError("no")
    with pytest.raises(errors.InternalError):
        provider.create_snapshot(snapshot)
    assert files(provider) == [f"volume-{volume.id}"]
    assert provider.delete_snapshot(snapshot) is False
    provider.create_snapshot(snapshot)


def test_a_snapshot_that_needs_another_file_system_names_the_volume(make):
    """Not its UUID, which nobody wrote. Files in memory cannot share blocks."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        provider = make(FILE, file_driver_path=folder)
        volume = ProviderVolume(id=str(uuid.uuid4()), size=1, name="pg data")
        provider.create_volume(volume)
        provider.connect(volume, volume.id, host("h1"))
        with pytest.raises(errors.FailedPreconditionError, match="the volume 'pg data' is connected, and the file system"):
            provider.create_snapshot(ProviderSnapshot(id=str(uuid.uuid4()), volume_id=volume.id, size=1))
        assert files(provider) == [f"volume-{volume.id}"]


def test_failed_extend_changes_nothing(make):
    """X10."""
    provider = make()
    volume = new()
    provider.create_volume(volume)
    provider.driver.fail["extend_volume while extending"] = RuntimeError("no")
    with pytest.raises(errors.InternalError):
        provider.extend_volume(volume, 2)
    assert provider.volume_size(volume) == 1
    assert provider.find_row(volume.id)._ovo.status == "available"
    assert provider.extend_volume(volume, 2) == 2


@pytest.mark.parametrize("gone", ["artifact", "row"])
def test_delete_when_half_is_gone(make, rows, metadata_dir, gone):
    """D6: the array lost it, or the metadata did."""
    provider = make()
    volume = new()
    provider.create_volume(volume)
    if gone == "artifact":
        (Path(provider.config.options["file_driver_path"]) / f"volume-{volume.id}").unlink()
    else:
        with sqlite3.connect(metadata_dir / "cinderlib.sqlite") as database:
            database.execute("DELETE FROM volumes WHERE id = ?", (volume.id,))
    assert provider.delete_volume(volume) is False
    assert files(provider) == []
    assert rows(volume) == (0, 0)


def test_interrupted_create_is_no_volume(make, rows):
    """R11: killed between the row and the end of the driver's call."""

    class Killed(BaseException):
        pass

    provider = make()
    volume = new()
    provider.driver.fail["create_volume"] = Killed()
    with pytest.raises(Killed):
        provider.create_volume(volume)
    assert rows(volume) == (1, 0)
    assert provider.volume_size(volume) is None
    with pytest.raises(errors.AlreadyExistsError):
        provider.create_volume(volume)
    assert provider.delete_volume(volume) is True
    assert files(provider) == []
    assert provider.create_volume(volume) == 1


@pytest.mark.parametrize("step", ["create_export", "initialize_connection", "terminate_connection h1", "remove_export"])
@pytest.mark.parametrize("then", ["connect", "disconnect"])
def test_killed_at_a_step_of_connecting(make, rows, step, then):
    """C9, U11: any next call ends as if nothing had happened."""

    class Killed(BaseException):
        pass

    provider = make()
    driver = provider.driver
    volume = new()
    provider.create_volume(volume)
    driver.fail[step] = Killed()
    with contextlib.suppress(Killed):
        provider.connect(volume, volume.id, host("h1"))
        provider.disconnect(volume, volume.id, host("h1"), last=True)
        pytest.fail(f"{step} was not reached")
    if then == "connect":
        provider.connect(volume, volume.id, host("h1"))
        assert rows(volume) == (1, 1)
        assert driver.exported == {volume.id}
    provider.disconnect(volume, volume.id, host("h1"), last=True)
    assert rows(volume) == (1, 0)
    assert driver.exported == set()
    assert provider.delete_volume(volume) is True


def test_metadata_survives_the_process(make):
    """A driver's answer is kept: another provider object, as in the runner, sees it."""
    one = make(name="same")
    volume = new()
    one.create_volume(volume)
    first = one.connect(volume, volume.id, host("h1"))
    one.close()
    two = make(name="same")
    assert two is not one
    row = two.find_row(volume.id)
    assert row._ovo.provider_location == f"here:{volume.id}"
    assert row._ovo.provider_auth == "CHAP user s3cret-chap-password"
    assert row._ovo.status == "in-use"
    assert two.connect(volume, volume.id, host("h1")) == first
    two.restore(volume)
    assert two.driver.exported == {volume.id}
    assert two.find_row(volume.id)._ovo.provider_location == "restored"
    two.disconnect(volume, volume.id, host("h1"), last=True)
    two.delete_volume(volume)


def test_a_host_without_initiator_is_refused(make, rows):
    """C3."""
    provider = make()
    volume = new()
    provider.create_volume(volume)
    with pytest.raises(errors.NotFoundError, match="initiator"):
        provider.connect(volume, volume.id, {"host": "h1"})
    assert rows(volume) == (1, 0)


def test_a_volume_that_does_not_fit_is_refused(make):
    """P12, X9: thin volumes within the ratio only, and copies only when they fit."""
    provider = make(FILE, max_over_subscription_ratio="1.0")
    free = int(provider.stats().free_gib)
    with pytest.raises(errors.ResourceExhaustedError, match="max_over_subscription_ratio"):
        provider.create_volume(new(free + 5))
    volume = new()
    provider.create_volume(volume)
    with pytest.raises(errors.ResourceExhaustedError):
        provider.extend_volume(volume, free + 5)
    assert files(provider) == [f"volume-{volume.id}"]
    generous = make(FILE, max_over_subscription_ratio="100000")
    assert generous.create_volume(new(10 * 1024)) == 10 * 1024


def test_a_directory_that_others_can_write_is_refused(make, tmp_path):
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    with pytest.raises(errors.InvalidArgumentError, match="written by others"):
        make(FILE, file_driver_path=str(tmp_path / "open"))
    (tmp_path / "file").touch()
    with pytest.raises(errors.InvalidArgumentError, match="not a directory"):
        make(FILE, file_driver_path=str(tmp_path / "file"))
    with pytest.raises(errors.InvalidArgumentError):
        make(FILE, file_driver_path="relative")
    make(FILE, file_driver_path=str(tmp_path / "new" / "folder"))
    assert (tmp_path / "new" / "folder").stat().st_mode & 0o777 == 0o700


def test_the_capabilities_of_the_file_driver(make):
    assert make(FILE).capabilities() == frozenset(Capability)
