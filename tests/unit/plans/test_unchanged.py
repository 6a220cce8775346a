"""A run that changes nothing is cheap."""

from __future__ import annotations

import pytest

from saltstorage.consumer import localhost
from saltstorage.consumer.connectors import children
from saltstorage.consumer.connectors.remote import Remote
from tests.unit.plans.minion import ok

pytestmark = pytest.mark.root


def test_a_mounted_volume_needs_no_os_brick(host, monkeypatch):
    # In a process of its own, as hosts have it.
    monkeypatch.setattr(localhost, "Remote", Remote)
    ok(host.mounted())
    assert any(children._idle.values())
    children.stop()
    assert ok(host.mounted())["changes"] == {}
    assert not children._idle
