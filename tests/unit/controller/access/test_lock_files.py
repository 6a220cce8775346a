"""Requests of minions do not fill the directory of the locks, whose files stay."""

import os

import pytest

from saltstorage import errors
from saltstorage.controller.service import Service

CONNECTOR = {"host": "web1", "initiator": "iqn.2026-01.org.example:web1"}
NAMED = {
    "connect": {"connector": CONNECTOR},
    "extend": {"size": 2},
    "followed": {"size": 2},
    "mark_formatted": {},
    "create": {"size": 1, "source": {"snapshot": "none"}},
    "snapshot_create": {"volume": "none"},
}


@pytest.fixture
def lock_files(tmp_path, monkeypatch):
    """A function that counts the files of locks."""
    monkeypatch.setattr("saltstorage.controller.access.locks.BUCKETS", 4)
    return lambda: len(os.listdir(tmp_path / "state" / "locks"))


@pytest.mark.parametrize("op", NAMED)
def test_invented_names_add_few_lock_files(service, lock_files, op):
    service.execute("create", {"name": "real", "size": 1}, "web1")
    before = lock_files()
    for number in range(30):
        args = {**NAMED[op], "name": f"made-up-{number}"}
        if "volume" in args:
            args["volume"] = f"made-up-{number}"
        with pytest.raises(errors.StorageError):
            service.execute(op, args, "web1")
    assert lock_files() <= before + 4


@pytest.mark.parametrize("op", ["connect", "followed", "mark_formatted"])
def test_invented_shared_names_add_no_lock_files(opts, lock_files, op):
    opts["storage"]["policy"] = {"*": {"shared": ["*"]}}
    service = Service(opts)
    service.execute("create", {"name": "real", "size": 1}, "web1")
    before = lock_files()
    for number in range(30):
        more = {"create": {"size": 1, "source": {"volume": f"source-{number}"}}} if op == "connect" and number % 2 else {}
        with pytest.raises(errors.NotFoundError):
            service.execute(op, {**NAMED[op], **more, "name": f"made-up-{number}", "owner": "shared"}, "web1")
    assert lock_files() == before
    service.close()


def test_a_copy_may_share_its_lock_with_its_source(service, monkeypatch):
    monkeypatch.setattr("saltstorage.controller.access.locks.BUCKETS", 1)
    service.execute("create", {"name": "a", "size": 1}, "web1")
    assert service.execute("create", {"name": "b", "size": 1, "source": {"volume": "a"}}, "web1")["old"] is None
