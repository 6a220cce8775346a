"""Marks of unfinished work in the record of an attachment."""

from __future__ import annotations

from saltstorage.consumer.consumer import Consumer
from tests.unit.consumer.helpers import attach, drop


def test_formatting_is_remembered(consumer, config, file):
    attach(consumer, file)
    assert consumer.begin_format("data") is False
    assert Consumer(config).begin_format("data") is True
    assert consumer.attachment("data").formatting
    consumer.end_format("data")
    assert consumer.begin_format("data") is False
    consumer.end_format("data")
    drop(consumer)
