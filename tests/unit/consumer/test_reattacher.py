"""Attaching all recorded volumes again after a boot."""

from __future__ import annotations

import os
import subprocess

import pytest

from saltstorage.consumer.consumer import Consumer
from saltstorage.consumer.devices import loop
from saltstorage.consumer.status import GONE
from saltstorage.errors import NotFoundError
from tests.loops import let_go
from tests.unit.consumer.helpers import GIB, attach, devices_below, drop


@pytest.mark.alone  # a number is freed and taken again
def test_all_volumes_are_attached_again_after_a_boot(consumer, config, make_file, folder):
    """Rule R4: the records are enough.

    All devices are gone, loop numbers mean nothing, and the controller is down.
    """
    files = {name: make_file(f"file-{number}") for number, name in enumerate(("a", "b", "c d"))}
    before = {name: attach(consumer, file, name, id=name) for name, file in files.items()}
    for name, attachment in before.items():
        record = consumer.records.load(name)
        consumer.records.save(record.replace(boot_id="another boot"))
        let_go(attachment.device)
    os.unlink(files["b"])
    # Another file has taken the first volume's number.
    stranger = make_file("stranger")
    subprocess.run(["losetup", before["a"].device, str(stranger)], check=True)
    fresh = Consumer(config)
    assert fresh.check("a").state == GONE
    results = {result.name: result for result in fresh.reattach()}
    assert {name: result.state for name, result in results.items()} == {"a": "attached", "b": "failed", "c d": "attached"}
    assert isinstance(results["b"].error, NotFoundError)
    assert results["a"].path == before["a"].path
    assert fresh.check("a").ok
    assert fresh.check("c d").ok
    assert {result.state for result in fresh.reattach() if result.name != "b"} == {"ok"}
    assert loop.status(before["a"].device).backing_file == str(stranger)
    let_go(before["a"].device)
    for name in files:
        drop(fresh, name)
    assert devices_below(folder) == []


def test_reattach_takes_the_size_that_it_finds(consumer, file):
    """The volume grew while this host was down."""
    one = attach(consumer, file)
    let_go(one.device)
    os.truncate(file, 2 * GIB)
    assert [result.state for result in consumer.reattach()] == ["attached"]
    assert consumer.check("data").ok
    assert consumer.check("data", size=2).ok
    drop(consumer)
