"""Which device is a recorded volume's now."""

from __future__ import annotations

import os

import pytest

from saltstorage.consumer import presence
from saltstorage.consumer.devices import block
from saltstorage.consumer.host.records import AttachmentRecord, Identity
from saltstorage.consumer.status import GONE, LOST, WRONG
from saltstorage.errors import UnavailableError
from tests.unit.consumer.helpers import GIB


@pytest.fixture
def nameless(device, monkeypatch):
    """A record of a device that has only a size, as a virtio disk without a serial number."""
    seen = {"diskseq": 7}
    monkeypatch.setattr(block, "identity", lambda path: Identity(size=GIB, **seen))
    record = AttachmentRecord(
        owner="db1", name="data", identity=Identity(size=GIB, diskseq=7), device=device, path=device, boot_id=block.boot_id()
    )
    return record, seen


def test_a_nameless_device_is_known_within_its_boot_only(nameless):
    """Rule R1: in another boot, a device of the same name and size proves nothing."""
    record, _ = nameless
    assert presence.look(record, record.identity, "link", "tag").ok
    assert presence.current(record, "tag") == [record.device]
    later = record.replace(boot_id="another boot")
    assert presence.look(later, later.identity, "link", "tag").state == GONE
    assert presence.current(later, "tag") == []


@pytest.mark.parametrize("other", [{"diskseq": 8}, {}])
def test_a_nameless_device_that_came_later_is_another(nameless, other):
    record, seen = nameless
    seen.clear()
    seen.update(other)
    status = presence.look(record, record.identity, "link", "tag")
    assert status.state == WRONG
    assert "came later" in status.detail
    assert presence.current(record, "tag") == []


def test_without_diskseq_a_nameless_device_is_trusted_in_its_boot(nameless):
    record, seen = nameless
    seen.clear()
    record = record.replace(identity=Identity(size=GIB))
    assert presence.look(record, record.identity, "link", "tag").ok


def test_a_named_device_may_come_back_later_in_its_boot(nameless):
    record, seen = nameless
    seen.update(wwn="naa.1", diskseq=9)
    record = record.replace(identity=Identity(size=GIB, wwn="naa.1", diskseq=7))
    assert presence.look(record, record.identity, "link", "tag").ok


def test_a_device_that_cannot_be_opened_is_lost_and_still_the_volume(device, monkeypatch):
    """A disk whose session was lost stays, and cannot be opened; it is still the volume's device.

    So it can be detached.
    """
    monkeypatch.setattr(block, "size", lambda path: os.close(os.open("/nonexistent/disk", os.O_RDONLY)))
    record = AttachmentRecord(
        owner="db1", name="data", identity=block.identity(device), device=device, path=device, boot_id=block.boot_id()
    )
    status = presence.look(record, record.identity, "link", "tag")
    assert (status.state, status.device, status.size, status.ok, status.refused) == (LOST, device, GIB, False, True)
    assert isinstance(status.error("data"), UnavailableError)
    assert "force" in str(status.error("data"))
    assert presence.current(record, "tag") == [device]
