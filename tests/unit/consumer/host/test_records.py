from __future__ import annotations

import json
import os
import stat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saltstorage import validate
from saltstorage.consumer.host.records import ATTACHED, AttachmentRecord, Identity, RecordStore, file_name
from saltstorage.errors import FailedPreconditionError, InvalidArgumentError
from tests.unit.consumer.helpers import HARD_NAMES


def valid(text: str) -> bool:
    try:
        validate.name(text)
    except InvalidArgumentError:
        return False
    return True


NAMES = st.text(min_size=1, max_size=128).filter(valid)


@given(NAMES)
def test_any_valid_name_has_a_plain_file_name(name):
    found = file_name(name)
    assert found.isascii()
    assert "/" not in found
    assert len(found) < 100
    assert not found.startswith(("-", "."))
    assert found.endswith(".json")


@given(NAMES, NAMES)
def test_two_names_have_two_files(one, other):
    assert (file_name(one) == file_name(other)) == (one == other)


def test_a_saved_record_is_loaded_unchanged(tmp_path):
    store = RecordStore(str(tmp_path / "attachments"))
    for name in HARD_NAMES:
        record = AttachmentRecord(
            owner="db1",
            name=name,
            state=ATTACHED,
            size=3,
            connection_info={"data": {"auth_password": "geheim"}},
            identity=Identity(size=3 * 2**30, wwn="naa.6001"),
            mount_points=("/srv/a b",),
        )
        saved = store.save(record)
        assert store.load(name) == saved
        assert saved.replace(updated=0.0) == record
    assert [record.name for record in store.all()[0]] == sorted(HARD_NAMES)
    for name in HARD_NAMES:
        store.remove(name)
        store.remove(name)
    assert os.listdir(tmp_path / "attachments") == []


def test_only_the_owner_of_the_file_can_read_a_record(tmp_path):
    store = RecordStore(str(tmp_path / "attachments"))
    before = os.umask(0)
    try:
        store.save(AttachmentRecord(owner="db1", name="data"))
    finally:
        os.umask(before)
    assert stat.S_IMODE(os.stat(store.directory).st_mode) == 0o700
    assert stat.S_IMODE(os.stat(store.path("data")).st_mode) == 0o600


def test_secrets_are_not_in_the_representation():
    record = AttachmentRecord(owner="db1", name="data", connection_info={"data": {"auth_password": "geheim"}}, device_info={"x": "geheim"})
    assert "geheim" not in repr(record)


@pytest.mark.parametrize(
    "contents",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe",
        b'{"name": "data"}',
        b'{"name": "data", "owner": "db1", "state": "gone"}',
        b'{"name": "data", "owner": "db1", "identity": {"bytes": "geheim"}}',
        b'{"name": "data", "owner": "db1", "connection_info": ["geheim"]}',
    ],
)
def test_a_damaged_record_is_named_and_stops_no_other(tmp_path, contents):
    store = RecordStore(str(tmp_path))
    store.save(AttachmentRecord(owner="db1", name="other"))
    with open(store.path("data"), "wb") as file:
        file.write(contents)
    with pytest.raises(FailedPreconditionError, match="damaged") as caught:
        store.load("data")
    assert store.path("data") in str(caught.value)
    assert "geheim" not in str(caught.value)
    records, errors = store.all()
    assert [record.name for record in records] == ["other"]
    assert [error.details["file"] for error in errors] == [store.path("data")]


def test_a_record_in_the_place_of_another_is_refused(tmp_path):
    store = RecordStore(str(tmp_path))
    store.save(AttachmentRecord(owner="db1", name="other"))
    os.rename(store.path("other"), store.path("data"))
    with pytest.raises(FailedPreconditionError, match="other"):
        store.load("data")


def test_fields_of_a_newer_release_are_ignored(tmp_path):
    store = RecordStore(str(tmp_path))
    store.save(AttachmentRecord(owner="db1", name="data"))
    with open(store.path("data"), encoding="utf-8") as file:
        data = json.load(file)
    with open(store.path("data"), "w", encoding="utf-8") as file:
        json.dump({**data, "colour": "red"}, file)
    assert store.load("data").name == "data"


def test_a_crash_while_writing_leaves_the_former_record(tmp_path):
    store = RecordStore(str(tmp_path))
    former = store.save(AttachmentRecord(owner="db1", name="data"))
    with open(store.path("data") + ".new", "wb") as file:
        file.write(b'{"half')
    assert store.load("data") == former
    assert store.all() == ([former], [])
    store.save(former)
    assert os.listdir(tmp_path) == [file_name("data")]
