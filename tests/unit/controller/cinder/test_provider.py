"""The cinderlib provider around a driver that records its calls, and fails on demand."""

from __future__ import annotations

import contextlib
import errno
import logging
import sqlite3
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cinder import exception

from saltstorage import errors
from saltstorage.controller.cinder import logs
from saltstorage.controller.cinder.provider import CinderlibProvider
from saltstorage.providers import BackendConfig, Capability, ProviderSnapshot, ProviderVolume

FILE = "saltstorage.drivers.file.FileDriver"
RECORDING = "tests.unit.controller.cinder.recording_driver.RecordingDriver"


@pytest.fixture
def make(metadata_dir, tmp_path):
    """Return a function that makes a provider of a fresh backend; all are closed at the end."""
    made = []

    def make(driver: str = RECORDING, *, load: bool = True, name: str = "", **options) -> CinderlibProvider:
        given = {"volume_driver": driver, "file_driver_path": str(tmp_path / "volumes"), **options}
        config = BackendConfig(
            name=name or f"test-{uuid.uuid4().hex[:8]}",
            options={key: value for key, value in given.items() if value is not None},
            state_dir=str(metadata_dir / "backends" / "test"),
            database=f"sqlite:///{metadata_dir}/cinderlib.sqlite",
        )
        provider = CinderlibProvider(config)
        made.append(provider)
        if load:
            provider.load()
        return provider

    yield make
    for provider in made:
        provider.close()


@pytest.fixture
def rows(metadata_dir):
    """Return a function that counts the rows of a volume in cinderlib's tables."""

    def count(volume) -> tuple[int, int]:
        with sqlite3.connect(metadata_dir / "cinderlib.sqlite") as database:
            volumes = database.execute("SELECT count(*) FROM volumes WHERE id = ?", (volume.id,)).fetchone()[0]
            attached = database.execute("SELECT count(*) FROM volume_attachment WHERE volume_id = ?", (volume.id,)).fetchone()[0]
        return volumes, attached

    return count


def new(size: int = 1) -> ProviderVolume:
    return ProviderVolume(id=str(uuid.uuid4()), size=size)


def host(name: str) -> dict[str, str]:
    return {"host": name, "initiator": name}


def files(provider) -> list[str]:
    return sorted(path.name for path in Path(provider.config.options["file_driver_path"]).iterdir())


# Traps of cinderlib


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


# The file driver through the provider


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


# Options and errors


@pytest.mark.parametrize(
    ("options", "field", "message"),
    [
        ({"file_driver_pth": "/x"}, "file_driver_pth", "did you mean 'file_driver_path'"),
        ({"nonsense_of_mine": 1}, "nonsense_of_mine", "does not have"),
        ({"reserved_percentage": "ten"}, "reserved_percentage", "wrong value"),
        ({"reserved_percentage": 101}, "reserved_percentage", "wrong value"),
        ({"file_driver_path": ""}, "file_driver_path", "lacks the option"),
        ({"volume_driver": "cinder.volume.drivers.nope.Driver"}, "volume_driver", "does not exist"),
        ({"volume_driver": "cinder.volume.drivers.lvm.Nope"}, "volume_driver", "does not exist"),
        ({"volume_driver": "os.path"}, "volume_driver", "does not exist"),
        ({"volume_driver": None}, "volume_driver", "needs the option"),
        ({"volume_driver": ".x"}, "volume_driver", "needs the option"),
    ],
)
def test_a_wrong_option_is_named(make, options, field, message):
    driver = options.pop("volume_driver", FILE) if "volume_driver" in options else FILE
    provider = make(driver, load=False, **options)
    with pytest.raises(errors.InvalidArgumentError, match=message) as caught:
        provider.load()
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("driver", "package"),
    [
        ("tests.unit.controller.cinder.needy_driver.NeedyDriver", "storage_no_such_vendor_sdk"),
        ("tests.unit.controller.cinder.recording_driver.LazyDriver", "storage_no_such_vendor_library"),
    ],
)
def test_missing_package_is_named(make, driver, package):
    """G8."""
    with pytest.raises(errors.FailedPreconditionError, match=package) as caught:
        make(driver)
    assert caught.value.details["packages"] == [package]


RBD = "cinder.volume.drivers.rbd.RBDDriver"
KEYRING = "[client.cinder]\n\tkey = geheimer-schluessel==\n"


def test_g8_a_ceph_keyring_that_cannot_be_read(make, tmp_path):
    """The driver would go on, and every host would fail."""
    with pytest.raises(errors.FailedPreconditionError, match="No such file") as caught:
        make(RBD, rbd_user="cinder", rbd_keyring_conf=str(tmp_path / "none"), file_driver_path=None)
    assert caught.value.field == "rbd_keyring_conf"


@pytest.mark.parametrize("text", ["", "[client.other]\nkey = x\n", KEYRING + "[client.admin]\n key=der-andere-schluessel\n"])
def test_g9_a_ceph_keyring_holds_the_key_for_hosts_and_no_other(make, tmp_path, text):
    (tmp_path / "keyring").write_text(text)
    with pytest.raises(errors.InvalidArgumentError, match="client.cinder and no other") as caught:
        make(RBD, rbd_user="cinder", rbd_keyring_conf=str(tmp_path / "keyring"), file_driver_path=None)
    assert "schluessel" not in str(caught.value)


def test_g9_the_key_of_a_ceph_keyring_is_masked(make, tmp_path):
    """Cinder's driver logs it at DEBUG with each connection. Without Ceph's bindings the backend
    is down, and the error names them.
    """
    (tmp_path / "keyring").write_text(KEYRING)
    with pytest.raises(errors.FailedPreconditionError, match="'rados'"):
        make(RBD, rbd_user="cinder", rbd_keyring_conf=str(tmp_path / "keyring"), file_driver_path=None)
    assert "schluessel" not in logs.mask(str({"keyring": KEYRING}))


def test_no_secret_in_messages_or_logs(make, caplog, monkeypatch):
    """G9, R26: neither the array's password, nor a command's, nor CHAP's."""
    from tests.unit.controller.cinder import recording_driver

    monkeypatch.setattr(recording_driver, "absent", object())
    caplog.set_level(logging.DEBUG)
    with pytest.raises(errors.UnavailableError) as down:
        make("tests.unit.controller.cinder.recording_driver.DownDriver", chap_password="pa55word-of-array", target_prefix="192.0.2.1")
    assert "192.0.2.1" in str(down.value)
    with pytest.raises(errors.StorageError, match="'tgtadm' failed with exit code 22") as command:
        make("tests.unit.controller.cinder.recording_driver.CommandDriver")
    provider = make()
    volume = new()
    provider.create_volume(volume)
    provider.connect(volume, volume.id, host("h1"))
    provider.driver.fail["ensure_export"] = RuntimeError("no login with s3cret-chap-password")
    with pytest.raises(errors.InternalError) as chap:
        provider.restore(volume)
    text = caplog.text + "".join(str(error.value) + repr(error.value.to_wire()) for error in (down, command, chap))
    for secret in ("pa55word-of-array", "s3cret-in-command", "s3cret-chap-password"):
        assert secret not in text
    for error in (down, command, chap):
        assert error.value.__cause__ is None
        assert error.value.__suppress_context__


def test_a_backend_that_failed_can_be_loaded_later(make, tmp_path):
    (tmp_path / "volumes").touch()
    provider = make(FILE, load=False)
    with pytest.raises(errors.StorageError):
        provider.load()
    with pytest.raises(errors.UnavailableError):
        provider.create_volume(new())
    (tmp_path / "volumes").unlink()
    provider.load()
    assert provider.create_volume(new()) == 1


def test_backends_load_in_parallel(make, tmp_path):
    """Each driver gets its own options, also when others load at the same time."""
    providers = [make(FILE, load=False, file_driver_path=str(tmp_path / f"v{n}"), reserved_percentage=n) for n in range(12)]
    with ThreadPoolExecutor(12) as pool:
        list(pool.map(lambda provider: provider.load(), providers))
    for n, provider in enumerate(providers):
        assert provider.driver.folder == tmp_path / f"v{n}"
        assert provider.driver.configuration.reserved_percentage == n


def test_options_of_an_earlier_load_do_not_stay(make, tmp_path):
    first = make(FILE, name="changing", reserved_percentage=7)
    assert first.driver.configuration.reserved_percentage == 7
    first.close()
    assert make(FILE, name="changing").driver.configuration.reserved_percentage == 0


@pytest.mark.parametrize("name", ["database", "oslo_concurrency", "a b", "DEFAULT", "naïve-数据", "x@y#z%"])
def test_a_backend_may_have_any_name(make, name):
    """No name collides with a group of oslo.config, or has the separators of Cinder's host."""
    provider = make(FILE, name=name)
    volume = new()
    provider.create_volume(volume)
    assert provider.volume_size(volume) == 1
    assert provider.stats().name == name
    assert provider.stats().allocated_gib == 1
    provider.delete_volume(volume)


# Types


def test_specs_reach_the_driver_for_the_whole_life(make, rows):
    """The specs stay with the volume through every later write of its row, in which cinderlib
    itself would lose them.
    """
    from cinder.db import api, models

    provider = make()
    driver = provider.driver
    seen = []

    def look(name):
        original = getattr(driver, name)

        def called(volume, *args, **kwargs):
            kind = volume.volume_type
            seen.append((name, dict(kind.extra_specs), dict(kind.qos_specs.specs) if kind.qos_specs else None))
            return original(volume, *args, **kwargs)

        setattr(driver, name, called)

    def left(table):
        with api.main_context_manager.reader.using(provider.context) as session:
            return session.query(table).count()

    tables = (models.VolumeType, models.VolumeTypeExtraSpecs, models.QualityOfServiceSpecs)
    before = [left(table) for table in tables]
    for name in ("create_volume", "extend_volume", "initialize_connection", "delete_volume"):
        look(name)
    specs, qos = {"provisioning:type": "thick", "tier": "1"}, {"maxIOPS": "500"}
    volume = ProviderVolume(id=str(uuid.uuid4()), size=1, extra_specs=specs, qos_specs=qos)
    provider.create_volume(volume)
    later = ProviderVolume(id=volume.id, size=1)
    provider.extend_volume(later, 2)
    provider.connect(later, volume.id, host("h1"))
    provider.disconnect(later, volume.id, host("h1"), last=True)
    provider.delete_volume(later)
    assert seen == [(name, specs, qos) for name in ("create_volume", "extend_volume", "initialize_connection", "delete_volume")]
    assert rows(volume) == (0, 0)
    assert [left(table) for table in tables] == before


@pytest.mark.parametrize("given", [{"extra_specs": {"tier": "1"}}, {"qos_specs": {"maxIOPS": "500"}}])
def test_specs_of_one_kind_alone_reach_the_driver(make, rows, given):
    provider = make()
    volume = ProviderVolume(id=str(uuid.uuid4()), size=1, **given)
    provider.create_volume(volume)
    row = provider.need_row(volume.id)
    assert dict(row._ovo.volume_type.extra_specs) == given.get("extra_specs", {})
    assert (dict(row._ovo.volume_type.qos_specs.specs) if row._ovo.volume_type.qos_specs else {}) == given.get("qos_specs", {})
    clone = new()
    provider.create_volume(clone, source=volume)
    for each in (clone, volume):
        provider.delete_volume(each)
        assert rows(each) == (0, 0)


def test_a_failed_creation_leaves_no_type(make, rows):
    from cinder.db import api, models

    provider = make()
    provider.driver.fail["create_volume"] = RuntimeError("no")
    volume = ProviderVolume(id=str(uuid.uuid4()), size=1, extra_specs={"tier": "1"}, qos_specs={"maxIOPS": "5"})
    with pytest.raises(errors.InternalError):
        provider.create_volume(volume)
    assert rows(volume) == (0, 0)
    with api.main_context_manager.reader.using(provider.context) as session:
        for table in (models.VolumeType, models.QualityOfServiceSpecs):
            assert session.query(table).filter_by(id=volume.id).count() == 0


def test_files_on_nfs_are_kept_from_others_unless_the_options_say_otherwise():
    """Cinder's ``auto`` would become ``false``: files that everybody may read and write."""
    from cinder.volume.drivers.nfs import NfsDriver

    from saltstorage.controller.cinder.options import add_safe_defaults
    from saltstorage.drivers.file import FileDriver

    secure = {"nas_secure_file_operations": "true", "nas_secure_file_permissions": "true"}
    assert add_safe_defaults(NfsDriver, {"nas_host": "192.0.2.1"}) == {"nas_host": "192.0.2.1", **secure}
    assert add_safe_defaults(NfsDriver, dict.fromkeys(secure, "auto")) == secure
    assert add_safe_defaults(NfsDriver, dict.fromkeys(secure, "false")) == dict.fromkeys(secure, "false")
    assert add_safe_defaults(FileDriver, {}) == {}


@pytest.fixture
def chap(make, monkeypatch):
    """A provider whose driver draws credentials and forgets them with the export, and the secret
    that it draws next.
    """
    from tests.unit.controller.cinder import recording_driver

    drawn = uuid.uuid4().hex[:16]

    def create_export(self, context, volume, connector):
        return {"provider_auth": volume.provider_auth or f"CHAP user {drawn}"}

    def remove_export(self, context, volume):
        self._note("remove_export")
        volume.provider_auth = None

    monkeypatch.setattr(recording_driver.RecordingDriver, "create_export", create_export)
    monkeypatch.setattr(recording_driver.RecordingDriver, "remove_export", remove_export)
    return make(), drawn


def mapping(volume, name: str) -> str:
    return str(uuid.uuid5(uuid.UUID(volume.id), name))


def masked(secret: str) -> bool:
    return logs.mask(f"user%{secret}") == "user%***"


def test_a_secret_is_masked_until_the_last_host_has_left(chap):
    """R26, and the mask remembers no more secrets than there are volumes with an export."""
    provider, secret = chap
    volume = new()
    provider.create_volume(volume)
    provider.connect(volume, mapping(volume, "h1"), host("h1"))
    provider.connect(volume, mapping(volume, "h2"), host("h2"))
    provider.disconnect(volume, mapping(volume, "h1"), host("h1"), last=False)
    assert masked(secret)
    provider.driver.fail["remove_export"] = RuntimeError(f"no login with {secret}")
    with pytest.raises(errors.InternalError) as caught:
        provider.disconnect(volume, mapping(volume, "h2"), host("h2"), last=True)
    assert secret not in str(caught.value)
    assert masked(secret), "the export is still there"
    provider.disconnect(volume, mapping(volume, "h2"), host("h2"), last=True)
    assert not masked(secret)


def test_the_secret_of_a_connect_that_failed_is_masked(chap):
    """The error may have it in its text, and so may the row, where the next connect finds it."""
    provider, secret = chap
    volume = new()
    provider.create_volume(volume)
    provider.driver.fail["initialize_connection"] = RuntimeError(f"no login with {secret}")
    with pytest.raises(errors.InternalError) as caught:
        provider.connect(volume, mapping(volume, "h1"), host("h1"))
    assert secret not in str(caught.value)
    assert masked(secret)
    logs.keep_secrets(volume.id, ())  # as after a restart
    provider.driver.fail["remove_export"] = RuntimeError(f"no login with {secret}")
    with pytest.raises(errors.InternalError) as caught:
        provider.delete_volume(volume)
    assert secret not in str(caught.value)
    provider.delete_volume(volume)
    assert not masked(secret)


def test_a_secret_that_a_driver_keeps_is_masked_until_the_volume_is_gone(chap, monkeypatch):
    """Cinder's own drivers use it again for the next host."""
    from tests.unit.controller.cinder import recording_driver

    provider, secret = chap
    monkeypatch.setattr(recording_driver.RecordingDriver, "remove_export", lambda *_args: None)
    for end in (provider.delete_volume, provider.unmanage_volume):
        volume = new()
        provider.create_volume(volume)
        provider.connect(volume, mapping(volume, "h1"), host("h1"))
        provider.disconnect(volume, mapping(volume, "h1"), host("h1"), last=True)
        assert masked(secret)
        end(volume)
        assert not masked(secret)


def test_a_secret_is_masked_after_a_restart(chap):
    """Before the driver is called, and so is a secret that the driver draws anew."""
    provider, secret = chap
    volume = new()
    provider.create_volume(volume)
    provider.connect(volume, mapping(volume, "h1"), host("h1"))
    for call in (lambda: provider.restore(volume), lambda: provider.connect(volume, mapping(volume, "h1"), host("h1"))):
        logs.keep_secrets(volume.id, ())
        assert not masked(secret)
        call()
        assert masked(secret)
    other = uuid.uuid4().hex[:16]
    provider.driver.ensure_export = lambda _context, _volume: {"provider_auth": f"CHAP user {other}"}
    provider.restore(volume)
    assert (masked(secret), masked(other)) == (False, True)
