"""The consumer as a whole, without a controller, with real files and loop devices."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from saltstorage.consumer.host.records import DETACHED, file_name
from saltstorage.consumer.status import ABSENT
from saltstorage.errors import FailedPreconditionError, NotFoundError
from tests.unit.consumer.helpers import GIB, HARD_NAMES, attach, devices_below, drop


def test_a_volume_is_attached_and_detached(consumer, file, folder):
    assert consumer.attachment("data") is None
    assert consumer.check("data").state == ABSENT
    with pytest.raises(NotFoundError):
        consumer.device("data")
    found = attach(consumer, file)
    assert (found.state, found.size, found.protocol) == ("attached", 1, "local")
    assert consumer.device("data") == found.path == str(folder / "root/dev/storage/data")
    assert os.path.realpath(found.path) == found.device
    status = consumer.check("data", size=1)
    assert (status.ok, status.size, status.path) == (True, GIB, found.path)
    assert consumer.attachments() == ([found], [])
    assert consumer.holders("data") == []
    done = consumer.detach("data")
    assert (done.changed, done.unmap, done.connection_id) == (True, True, "c1")
    assert devices_below(folder) == []
    assert not os.path.lexists(found.path)
    assert consumer.attachment("data").state == DETACHED
    # Row U11: the minion has detached, the controller has not unmapped. A repeat changes nothing
    # here, and asks for the rest.
    again = consumer.detach("data")
    assert (again.changed, again.unmap, again.connection_id) == (False, True, "c1")
    consumer.forget("data")
    consumer.forget("data")
    assert consumer.attachments() == ([], [])
    assert [path for path in (folder / "root").rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("name", HARD_NAMES)
def test_g3_any_valid_name_is_attached_and_detached(consumer, file, name):
    attach(consumer, file, name)
    assert consumer.check(name).ok
    assert os.path.basename(consumer.device(name)) == name
    drop(consumer, name)


def test_written_data_is_there_after_detach_and_attach(consumer, file):
    one = attach(consumer, file)
    with open(one.path, "r+b") as device:
        device.write(b"kept")
    drop(consumer)
    one = attach(consumer, file)
    with open(one.path, "rb") as device:
        assert device.read(4) == b"kept"
    drop(consumer)


def test_a_damaged_record_stops_only_its_volume(consumer, file, make_file):
    attach(consumer, file)
    attach(consumer, make_file("other"), "other", id="2")
    path = Path(consumer.records.path("data"))
    good = path.read_bytes()
    path.write_bytes(b"{")
    for call in (consumer.check, consumer.attachment, consumer.device, consumer.detach, lambda name: consumer.intend("db1", name)):
        with pytest.raises(FailedPreconditionError, match="damaged"):
            call("data")
    found, errors = consumer.attachments()
    assert ([attachment.name for attachment in found], len(errors)) == (["other"], 1)
    assert consumer.check("other").ok
    assert sorted(result.state for result in consumer.reattach()) == ["failed", "ok"]
    drop(consumer, "other")
    path.write_bytes(good)
    drop(consumer)


def test_g9_secrets_are_only_in_the_record(consumer, file, caplog):
    with caplog.at_level("DEBUG"):
        found = attach(consumer, file)
        with pytest.raises(FailedPreconditionError):
            consumer.forget("data")
        drop(consumer)
    for text in (repr(found), str(found.to_wire()), caplog.text, repr(consumer.__dict__)):
        assert "geheim" not in text


def test_reading_loads_no_os_brick(consumer, config, file):
    """A state run that changes nothing must not pay for os-brick."""
    attach(consumer, file)
    script = f"""
import sys
from saltstorage.consumer.consumer import Consumer
from saltstorage.consumer.host.config import ConsumerConfig
consumer = Consumer(ConsumerConfig(**{config.__dict__!r}))
consumer.attachments(); consumer.attachment("data"); consumer.device("data"); consumer.holders("data")
assert consumer.check("data").ok
heavy = [name for name in sys.modules if name.split(".")[0] in ("os_brick", "oslo_config", "oslo_utils", "eventlet", "cinder")]
assert not heavy, heavy
"""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", script], check=True, env=env)
    drop(consumer)


def test_a_record_file_has_the_name_of_its_volume(consumer, file):
    attach(consumer, file)
    assert os.listdir(consumer.records.directory) == [file_name("data")]
    drop(consumer)
