"""Extra specs and QoS specs on their way to the driver, and safe defaults of its options."""

from __future__ import annotations

import uuid

import pytest

from saltstorage import errors
from saltstorage.providers import ProviderVolume

from .backends import host, new


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
