"""A volume that is renamed between the look-up and its lock: nothing is done under the lock of
its former name.
"""

from __future__ import annotations

import contextlib

import pytest

from saltstorage import model
from saltstorage.controller.access.locks import Locks
from saltstorage.errors import AbortedError

CUT = {"name": "cut"}
COPY = {"size": 1, "source": {"snapshot": "cut"}}


@pytest.fixture
def cut(service):
    """A snapshot of the volume ``data``."""
    service.execute("create", {"name": "data", "size": 1}, "web1")
    return service.execute("snapshot_create", {**CUT, "volume": "data", "frozen": True}, "web1")["snapshot"]


@pytest.fixture
def renamed(service, monkeypatch):
    """The volume is renamed just before the next lock is taken."""

    def rename():
        held = Locks.held

        @contextlib.contextmanager
        def late(locks, *keys, **how):
            monkeypatch.setattr(Locks, "held", held)
            service.transfers.give(owner="web1", name="data", new_owner="web1", new_name="archive")
            with held(locks, *keys, **how):
                yield

        monkeypatch.setattr(Locks, "held", late)

    return rename


@pytest.mark.parametrize(
    ("op", "args"),
    [
        ("snapshot_delete", CUT),
        ("snapshot_mark_frozen", CUT),
        ("snapshot_revert", {**CUT, "confirm": True}),
        ("create", {"name": "copy", **COPY}),
        ("connect", {"name": "copy", "connector": {"host": "web1"}, "create": COPY}),
    ],
)
def test_g4_an_operation_is_aborted_and_can_be_tried_again(service, cut, renamed, op, args):
    if op == "snapshot_mark_frozen":
        args = {**args, "id": cut["id"]}
    renamed()
    with pytest.raises(AbortedError, match="renamed meanwhile"):
        service.execute(op, args, "web1")
    assert service.catalog.volume("web1", "copy") is None
    assert service.catalog.snapshot("web1", "cut").state == model.AVAILABLE
    service.execute(op, args, "web1")


def test_g4_a_repair_leaves_it_alone(service, cut, renamed):
    snapshot = service.catalog.snapshot("web1", "cut")
    repair = service.repair()
    service.catalog.update(snapshot, state=model.DELETING)
    findings = [f for f in repair.check.findings() if f.what == "snapshot"]
    assert len(findings) == 1
    renamed()
    with pytest.raises(AbortedError, match="renamed meanwhile"):
        repair._settle(findings[0], None)
    assert service.catalog.snapshot("web1", "cut") is not None
    repair._settle(findings[0], None)
    assert service.catalog.snapshot("web1", "cut") is None


def test_g4_the_recovery_leaves_it_alone(service, cut, renamed, files):
    service.catalog.update(service.catalog.snapshot("web1", "cut"), state=model.DELETING)
    renamed()
    service.recovery.run("local")
    assert service.catalog.snapshot("web1", "cut").state == model.DELETING
    service.recovery.run("local")
    assert service.catalog.snapshot("web1", "cut") is None
    assert len(files()) == 1
