"""Options of drivers, errors of a load, and several backends in one process."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor

import pytest

from saltstorage import errors
from saltstorage.controller.cinder import logs

from .backends import FILE, host, new


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
        ("tests.unit.controller.cinder.lazy_driver.LazyDriver", "storage_no_such_vendor_library"),
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


def test_no_secret_in_messages_or_logs(make, caplog):
    """G9, R26: neither the array's password, nor a command's, nor CHAP's."""
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
