"""Growing the devices of attached volumes."""

from __future__ import annotations

import os

import pytest

from saltstorage.consumer.devices import loop
from saltstorage.consumer.status import SIZE
from saltstorage.errors import DataLossError, UnavailableError
from tests.unit.consumer.helpers import GIB, attach, drop


def test_x7_a_grown_volume_shows_its_size(consumer, file):
    attach(consumer, file)
    os.truncate(file, 3 * GIB)
    status = consumer.check("data", size=3)
    assert (status.state, status.size) == (SIZE, GIB)
    assert consumer.resize("data", 3) == 3 * GIB
    assert consumer.resize("data", 3) == 3 * GIB
    assert consumer.check("data", size=3).ok
    assert consumer.attachment("data").size == 3
    assert consumer.check("data").ok
    drop(consumer)


def test_x7_device_lag_is_an_error(consumer, file):
    """Row R21."""
    attach(consumer, file)
    with pytest.raises(UnavailableError, match="still shows 1 GiB and not 3 GiB"):
        consumer.resize("data", 3)
    os.truncate(file, 2 * GIB)
    with pytest.raises(UnavailableError, match="still shows 2 GiB and not 3 GiB"):
        consumer.resize("data", size=3)
    assert consumer.check("data", size=2).ok
    os.truncate(file, 3 * GIB)
    assert consumer.resize("data", 3) == 3 * GIB
    drop(consumer)


def test_x7_a_second_attach_lets_the_device_grow(consumer, file):
    attach(consumer, file)
    os.truncate(file, 2 * GIB)
    assert attach(consumer, file, size=2).size == 2
    assert consumer.check("data", size=2).ok
    drop(consumer)


def test_x7_a_crash_after_the_device_grew_is_resumed(consumer, file):
    one = attach(consumer, file)
    os.truncate(file, 2 * GIB)
    loop.refresh_size(one.device)
    assert consumer.check("data", size=2).state == SIZE
    assert consumer.resize("data", 2) == 2 * GIB
    assert consumer.check("data", size=2).ok
    drop(consumer)


def test_a_volume_that_shrank_is_not_used(consumer, file):
    one = attach(consumer, file)
    os.truncate(file, GIB // 2)
    loop.refresh_size(one.device)
    assert consumer.check("data").state == SIZE
    with pytest.raises(DataLossError, match="shrank"):
        consumer.resize("data", 1)
    drop(consumer)
