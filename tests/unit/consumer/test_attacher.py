"""Attaching, refusing and resuming, with real files and loop devices."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
from pathlib import Path

import pytest

from saltstorage.consumer.consumer import Consumer
from saltstorage.consumer.devices import loop
from saltstorage.consumer.status import GONE, WRONG
from saltstorage.errors import (
    AlreadyExistsError,
    DataLossError,
    FailedPreconditionError,
    InternalError,
    InvalidArgumentError,
    NotFoundError,
    UnavailableError,
    UnimplementedError,
)
from tests.loops import let_go
from tests.unit.consumer.helpers import GIB, attach, devices_below, drop, local, volume


def test_c4_a_second_attach_changes_nothing(consumer, file, folder):
    one = attach(consumer, file)
    assert attach(consumer, file) == one
    assert len(devices_below(folder)) == 1
    drop(consumer)


@pytest.mark.parametrize("name", ["", "..", "a/b", "a\n", "x" * 129, 7, None])
def test_c1_an_invalid_name_is_refused(consumer, name):
    with pytest.raises(InvalidArgumentError):
        consumer.intend("db1", name)
    assert consumer.attachments() == ([], [])


@pytest.mark.parametrize(
    ("info", "error"),
    [
        (None, InvalidArgumentError),
        ({}, InvalidArgumentError),
        ({"driver_volume_type": "local"}, InvalidArgumentError),
        ({"driver_volume_type": "local", "data": {"device_path": "/x", "encrypted": True}}, UnimplementedError),
        ({"driver_volume_type": "carrier pigeon", "data": {}}, UnimplementedError),
        ({"driver_volume_type": "local", "data": {}}, InternalError),
        ({"driver_volume_type": "local", "data": {"device_path": "/nonexistent/geheim"}}, NotFoundError),
        ({"driver_volume_type": "local", "data": {"device_path": "/proc"}}, InternalError),
    ],
)
def test_bad_connection_information_is_refused_and_undone(consumer, info, error):
    with pytest.raises(error):
        consumer.attach(volume(), connection_id="c1", connection_info=info)
    consumer.detach("data")
    consumer.forget("data")


def test_c5_a_read_only_volume_refuses_writes(consumer, file):
    found = attach(consumer, file, read_only=True)
    assert found.read_only
    with pytest.raises(OSError, match=r"permitted|Permission|Read-only"), open(found.path, "r+b", buffering=0) as device:
        device.write(b"x" * 512)
    with pytest.raises(AlreadyExistsError, match="reading only, not for writing") as caught:
        attach(consumer, file)
    assert caught.value.field == "read_only"
    drop(consumer)
    attach(consumer, file)
    with open(found.path, "r+b", buffering=0) as device:
        device.write(b"x" * 512)
    drop(consumer)


def test_c10_a_missing_device_is_attached_again(consumer, file):
    one = attach(consumer, file)
    let_go(one.device)
    assert consumer.check("data").state == GONE
    assert attach(consumer, file).state == "attached"
    assert consumer.check("data").ok
    drop(consumer)


def test_c10_a_missing_link_is_made_again(consumer, file):
    one = attach(consumer, file)
    os.unlink(one.path)
    assert consumer.check("data").state == GONE
    attach(consumer, file)
    assert consumer.check("data").ok
    drop(consumer)


@pytest.mark.alone  # a number is freed and taken again
@pytest.mark.parametrize("whose", ["losetup", "this consumer"])
def test_c10_another_file_on_the_loop_device_s_number_is_left_alone(consumer, file, make_file, whose):
    """Row C10, trap 9, rule R1: our device is gone, and another file has its number.

    The volume is attached again, and the other device stays as it is.
    """
    other = make_file("other")
    one = attach(consumer, file)
    let_go(one.device)
    subprocess.run(["losetup", one.device, str(other)], check=True)
    if whose == "this consumer":
        consumer.intend("db1", "other")
        assert attach(consumer, other, "other", id="22222222-2222-4222-8222-222222222222").device == one.device
    status = consumer.check("data")
    assert (status.state, status.device) == (GONE, "")
    assert consumer.holders("data") == []
    with pytest.raises(NotFoundError):
        consumer.resize("data", 2)
    with pytest.raises(NotFoundError):
        consumer.begin_format("data")
    two = attach(consumer, file)
    assert two.device != one.device
    assert consumer.check("data").ok
    assert loop.status(one.device).backing_file == str(other)
    drop(consumer)
    assert loop.status(one.device).backing_file == str(other)
    if whose == "this consumer":
        drop(consumer, "other")
    else:
        let_go(one.device)


def test_c11_a_replaced_file_is_refused(consumer, file, make_file, folder):
    attach(consumer, file)
    os.rename(make_file("new"), file)
    assert consumer.check("data").state == WRONG
    with pytest.raises(DataLossError):
        attach(consumer, file)
    assert consumer.detach("data").changed
    assert devices_below(folder) == []
    consumer.forget("data")


def test_r1_a_device_with_another_identity_is_not_linked(consumer, file, make_file, folder):
    """Another volume comes back at the address of the device: it is detached, not linked."""
    one = attach(consumer, file)
    let_go(one.device)
    os.rename(make_file("new"), file)
    with pytest.raises(DataLossError, match="another one"):
        attach(consumer, file)
    assert devices_below(folder) == []
    assert not os.path.lexists(one.path)
    drop(consumer)


def test_a_device_of_another_size_is_not_linked(consumer, make_file, folder):
    file = make_file(size=GIB + 512)
    with pytest.raises(DataLossError, match="may be another volume"):
        attach(consumer, file)
    assert devices_below(folder) == []
    assert not os.path.lexists(consumer.links.path("data"))
    with pytest.raises(DataLossError):
        attach(consumer, make_file("volume-1", GIB - 512))
    drop(consumer)


def test_a_host_has_one_volume_of_a_name(consumer, file, make_file):
    attach(consumer, file)
    with pytest.raises(AlreadyExistsError, match="of db1 is attached here"):
        consumer.intend("shared", "data")
    with pytest.raises(AlreadyExistsError):
        consumer.attach(volume(owner="shared"), connection_id="c2", connection_info=local(make_file("other")))
    with pytest.raises(AlreadyExistsError, match="another volume of the name"):
        consumer.attach(volume(id="2222"), connection_id="c2", connection_info=local(make_file("other")))
    with pytest.raises(AlreadyExistsError, match="belongs to db1"):
        consumer.detach("data", "shared")
    assert consumer.check("data").ok
    drop(consumer)


def test_something_in_the_way_is_refused_before_anything(consumer, file, folder):
    os.makedirs(consumer.config.device_dir)
    Path(consumer.links.path("data")).write_text("important")
    with pytest.raises(FailedPreconditionError, match="in the way"):
        consumer.intend("db1", "data")
    with pytest.raises(FailedPreconditionError, match="in the way"):
        consumer.attach(volume(), connection_id="c1", connection_info=local(file))
    assert (consumer.attachments(), devices_below(folder)) == (([], []), [])
    assert Path(consumer.links.path("data")).read_text() == "important"


def test_an_unreadable_device_is_refused(consumer, make_file, folder):
    """The file has 1 GiB when the device is made, and is cut before the check."""
    file = make_file()
    consumer.intend("db1", "data")

    def cut(step: str) -> None:
        if step == "check":
            os.truncate(file, 4096)

    with pytest.raises(UnavailableError, match="cannot be read"):
        Consumer(consumer.config, on_step=cut).attach(volume(), connection_id="c1", connection_info=local(file))
    assert consumer.attachment("data").state == "attaching"
    assert not os.path.lexists(consumer.links.path("data"))
    os.truncate(file, GIB)
    attach(consumer, file)
    assert consumer.check("data").ok
    drop(consumer)


def _attach_in_child(arguments):
    config, file = arguments
    return attach(Consumer(config), file).device


def test_jobs_at_the_same_time_attach_a_volume_once(consumer, config, file, folder):
    """Row R22."""
    consumer.connector_properties()
    with multiprocessing.get_context("fork").Pool(6) as pool:
        found = pool.map(_attach_in_child, [(config, file)] * 12, chunksize=1)
    assert len(set(found)) == 1
    assert len(devices_below(folder)) == 1
    assert consumer.check("data").ok
    drop(consumer)
