"""CHAP secrets of volumes are masked for as long as they are in use."""

from __future__ import annotations

import uuid

import pytest

from saltstorage import errors
from saltstorage.controller.cinder import logs

from .backends import host, new


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
