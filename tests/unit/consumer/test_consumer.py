"""Required behaviour of the consumer without a controller, with real files and loop devices."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

import pytest

from saltstorage.consumer import status as api
from saltstorage.consumer.consumer import Consumer
from saltstorage.consumer.devices import loop
from saltstorage.consumer.host.records import DETACHED, INTENT, file_name
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
from tests.unit.consumer.helpers import GIB, HARD_NAMES, attach, devices_below, drop, local, volume


def test_a_volume_is_attached_and_detached(consumer, file, folder):
    assert consumer.attachment("data") is None
    assert consumer.check("data").state == api.ABSENT
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


def test_c4_a_second_attach_changes_nothing(consumer, file, folder):
    one = attach(consumer, file)
    assert attach(consumer, file) == one
    assert len(devices_below(folder)) == 1
    drop(consumer)


@pytest.mark.parametrize("name", HARD_NAMES)
def test_g3_any_valid_name_is_attached_and_detached(consumer, file, name):
    attach(consumer, file, name)
    assert consumer.check(name).ok
    assert os.path.basename(consumer.device(name)) == name
    drop(consumer, name)


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
    assert consumer.check("data").state == api.GONE
    assert attach(consumer, file).state == "attached"
    assert consumer.check("data").ok
    drop(consumer)


def test_c10_a_missing_link_is_made_again(consumer, file):
    one = attach(consumer, file)
    os.unlink(one.path)
    assert consumer.check("data").state == api.GONE
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
    assert (status.state, status.device) == (api.GONE, "")
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


@pytest.mark.alone  # as above
def test_u7_detaching_leaves_another_file_on_the_number_alone(consumer, file, make_file):
    other = make_file("other")
    one = attach(consumer, file)
    let_go(one.device)
    subprocess.run(["losetup", one.device, str(other)], check=True)
    drop(consumer)
    assert loop.status(one.device).backing_file == str(other)
    let_go(one.device)


def test_c11_a_replaced_file_is_refused(consumer, file, make_file, folder):
    attach(consumer, file)
    os.rename(make_file("new"), file)
    assert consumer.check("data").state == api.WRONG
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


def test_u2_detaching_an_unattached_volume_changes_nothing(consumer, folder):
    assert not consumer.detach("data").changed
    assert not consumer.detach("data").unmap
    consumer.intend("db1", "data")
    assert consumer.detach("data").unmap
    consumer.forget("data")


def test_u4_a_link_to_a_device_without_a_record_is_refused(consumer, device, folder):
    os.makedirs(consumer.config.device_dir)
    os.symlink(device, consumer.links.path("data"))
    with pytest.raises(FailedPreconditionError, match="no attachment record"):
        consumer.detach("data")
    os.unlink(consumer.links.path("data"))
    os.symlink("/dev/no-such-device", consumer.links.path("data"))
    assert not consumer.detach("data").changed
    assert not os.path.lexists(consumer.links.path("data"))


@pytest.mark.parametrize("state", [INTENT, DETACHED])
def test_u4_an_intent_beside_a_mounted_device_is_refused(consumer, file, folder, state):
    """The records are lost while it is mounted, and a failed connect leaves an intent.

    The volume may not be unmapped.
    """
    one = attach(consumer, file)
    subprocess.run(["mkfs.ext4", "-q", one.path], check=True)
    point = folder / "mnt"
    point.mkdir()
    subprocess.run(["mount", one.path, str(point)], check=True)
    record = Path(consumer.records.path("data"))
    lost = record.read_bytes()
    record.unlink()
    try:
        consumer.intend("db1", "data")
        consumer.records.save(consumer.records.load("data").replace(state=state))
        for force in (False, True):
            with pytest.raises(FailedPreconditionError, match="no attachment record explains"):
                consumer.detach("data", force=force)
        assert consumer.attachment("data").state == state
        assert os.path.ismount(point)
    finally:
        subprocess.run(["umount", str(point)], check=True)
        record.write_bytes(lost)
        drop(consumer)


def test_u7_an_open_device_is_not_detached(consumer, file):
    """Row U7: a device in use stays as it is, also with force, and its holder is named."""
    one = attach(consumer, file)
    with open(one.path, "rb") as handle:
        process = subprocess.Popen(["sleep", "infinity"], stdin=handle)
    try:
        for force in (False, True):
            with pytest.raises(FailedPreconditionError, match=rf"open in sleep \(process {process.pid}\)") as caught:
                consumer.detach("data", force=force)
            assert len(caught.value.details["holders"]) == 1
        assert consumer.check("data").ok
    finally:
        process.kill()
        process.wait()
    drop(consumer)


def test_u7_a_mounted_device_is_not_detached(consumer, file, folder):
    one = attach(consumer, file)
    subprocess.run(["mkfs.ext4", "-q", one.path], check=True)
    point = folder / "mnt"
    point.mkdir()
    subprocess.run(["mount", one.path, str(point)], check=True)
    try:
        with pytest.raises(FailedPreconditionError, match=f"mounted on {point}"):
            consumer.detach("data")
        assert consumer.check("data").ok
    finally:
        subprocess.run(["umount", str(point)], check=True)
    drop(consumer)


def test_u8_unwritable_data_keeps_the_volume_attached(consumer, folder):
    """Rows U8 and R7: the file system below is full, so cached data cannot be written.

    The volume stays attached; force detaches it.
    """
    full = folder / "full"
    full.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1M", "tmpfs", str(full)], check=True)
    try:
        file = full / "volume"
        with file.open("wb") as handle:
            handle.truncate(GIB)
        one = attach(consumer, file)
        with open(one.path, "r+b", buffering=0) as device:
            device.write(os.urandom(4 * 2**20))
        with pytest.raises(DataLossError, match="stays attached"):
            consumer.detach("data")
        assert consumer.attachment("data").state == "attached"
        assert consumer.check("data").ok
        with open(one.path, "r+b", buffering=0) as device:
            device.write(os.urandom(4 * 2**20))
        done = consumer.detach("data", force=True)
        assert done.changed
        assert "data may be lost" in done.warnings[0]
        consumer.forget("data")
    finally:
        for status in devices_below(folder):
            let_go(status.path)
        subprocess.run(["umount", str(full)], check=True)


def test_written_data_is_there_after_detach_and_attach(consumer, file):
    one = attach(consumer, file)
    with open(one.path, "r+b") as device:
        device.write(b"kept")
    drop(consumer)
    one = attach(consumer, file)
    with open(one.path, "rb") as device:
        assert device.read(4) == b"kept"
    drop(consumer)


def test_x7_a_grown_volume_shows_its_size(consumer, file):
    attach(consumer, file)
    os.truncate(file, 3 * GIB)
    status = consumer.check("data", size=3)
    assert (status.state, status.size) == (api.SIZE, GIB)
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
    assert consumer.check("data", size=2).state == api.SIZE
    assert consumer.resize("data", 2) == 2 * GIB
    assert consumer.check("data", size=2).ok
    drop(consumer)


def test_a_volume_that_shrank_is_not_used(consumer, file):
    one = attach(consumer, file)
    os.truncate(file, GIB // 2)
    loop.refresh_size(one.device)
    assert consumer.check("data").state == api.SIZE
    with pytest.raises(DataLossError, match="shrank"):
        consumer.resize("data", 1)
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


def test_an_attached_volume_is_not_forgotten(consumer, file):
    attach(consumer, file)
    with pytest.raises(FailedPreconditionError, match="may still be attached"):
        consumer.forget("data")
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
    assert fresh.check("a").state == api.GONE
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


def test_a_volume_whose_device_went_with_a_boot_is_detached(consumer, file):
    one = attach(consumer, file)
    let_go(one.device)
    done = consumer.detach("data")
    assert (done.changed, done.unmap) == (True, True)
    consumer.forget("data")


def test_a_volume_whose_file_was_deleted_is_detached(consumer, file, folder):
    one = attach(consumer, file)
    before = loop.status(one.device)
    os.unlink(file)
    assert consumer.check("data").state == api.WRONG
    assert consumer.detach("data").changed
    after = loop.status(one.device)  # the kernel may have given the number to another process
    assert after is None or (after.tag, after.inode) != (before.tag, before.inode)
    consumer.forget("data")


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


def test_formatting_is_remembered(consumer, config, file):
    attach(consumer, file)
    assert consumer.begin_format("data") is False
    assert Consumer(config).begin_format("data") is True
    assert consumer.attachment("data").formatting
    consumer.end_format("data")
    assert consumer.begin_format("data") is False
    consumer.end_format("data")
    drop(consumer)


def test_c14_created_mount_points_are_removed_again(consumer, file, folder):
    attach(consumer, file)
    old, new, used = folder / "old", folder / "a" / "new", folder / "used"
    old.mkdir()
    assert consumer.add_mount_point("data", str(old)) is False
    assert consumer.add_mount_point("data", str(new)) is True
    assert consumer.add_mount_point("data", str(new)) is False
    assert consumer.add_mount_point("data", str(used)) is True
    (used / "file").write_text("x")
    assert consumer.remove_mount_points("data") == [str(new)]
    assert old.is_dir()
    assert used.is_dir()
    assert consumer.remove_mount_points("data") == []
    drop(consumer)


def test_c14_a_file_in_the_way_of_the_mount_point_is_named(consumer, file, folder):
    attach(consumer, file)
    (folder / "file").write_text("important")
    (folder / "link").symlink_to(folder / "nowhere")
    for path in (folder / "file", folder / "file/below/it", folder / "link", folder / "link/below"):
        with pytest.raises(FailedPreconditionError, match="in the way of the mount point") as caught:
            consumer.add_mount_point("data", str(path))
        assert caught.value.field == "mount"
        assert str(folder / path.relative_to(folder).parts[0]) in caught.value.message
        assert consumer.attachment("data").mount_points == ()
    assert (folder / "file").read_text() == "important"
    drop(consumer)


@pytest.mark.parametrize("path", ["/proc/storage", f"/tmp/{'x' * 300}"])
def test_c14_a_mount_point_that_cannot_be_created_is_not_recorded(consumer, file, folder, path):
    attach(consumer, file)
    consumer.add_mount_point("data", str(folder / "good"))
    with pytest.raises(FailedPreconditionError, match="cannot be created") as caught:
        consumer.add_mount_point("data", path)
    assert caught.value.field == "mount"
    assert consumer.attachment("data").mount_points == (str(folder / "good"),)
    consumer.remove_mount_points("data")
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
