"""Volumes that are moved between two backends, with real loop devices on the controller; also
killed between any two steps.
"""

import contextlib
import dataclasses
import functools
import hashlib
import os
import random
import signal
from pathlib import Path

import pytest

from saltstorage import model
from saltstorage.consumer.consumer import Consumer
from saltstorage.consumer.devices import loop
from saltstorage.controller.admin import copying
from saltstorage.controller.catalog import listing
from saltstorage.controller.catalog.catalog import Catalog
from saltstorage.controller.operations.core import Caller
from saltstorage.controller.service import Service
from saltstorage.errors import DataLossError, FailedPreconditionError, InvalidArgumentError, StorageError, UnavailableError
from tests.unit.controller.killing import killed

pytestmark = pytest.mark.root

CONNECTOR = {"host": "web1", "ip": "192.0.2.1", "multipath": False}
GIB = 2**30


#: Bytes at the beginning of volumes that are compared where a test moves them often; the other
#: tests show the whole copy.
SHORT = 8 * 2**20


@pytest.fixture
def short(monkeypatch):
    """Let only the beginning of volumes be copied and compared."""
    enter = copying.OpenedFile.__enter__

    def shortened(self):
        enter(self)
        self.size = min(self.size, SHORT)
        return self

    monkeypatch.setattr(copying.OpenedFile, "__enter__", shortened)


def make(service, tmp_path, size=None):
    """Create a volume with data at its beginning, in its middle and at its very end; return the
    checksum of it, or of its beginning.
    """
    volume = service.execute("create", {"name": "data", "size": 1}, "web1")["volume"]
    path = tmp_path / "volumes" / f"volume-{volume['id']}"
    noise = random.Random(1).randbytes(3 * 2**20)
    with path.open("r+b") as file:
        for position in (0, GIB // 2 + 12345, GIB - len(noise)):
            file.seek(position)
            file.write(noise)
    return checksum(path, size)


def checksum(path: Path, size: int | None = None) -> str:
    with path.open("rb") as file:
        if size is not None:
            return hashlib.sha256(file.read(size)).hexdigest()
        return hashlib.file_digest(file, "sha256").hexdigest()


def list_files(tmp_path):
    """Return the files of the two backends."""
    return [sorted(n for n in os.listdir(tmp_path / d) if n.startswith("volume-")) for d in ("volumes", "others")]


def devices(tmp_path):
    """Return the loop devices over files of this test."""
    return [path for path, file in loop.backing_files() if file.startswith(str(tmp_path))]


def move(service, **more):
    return service.moves.migrate(owner="web1", name="data", backend="other", **more)


def test_a_volume_moves_and_the_former_one_stays_until_its_deletion(pair, tmp_path):
    wanted = make(pair, tmp_path)
    before = pair.catalog.volume("web1", "data")
    answer = move(pair)
    volume = pair.catalog.volume("web1", "data")
    assert (answer["checksum"], answer["volume"]["id"]) == (wanted, volume.id)
    assert (volume.backend, volume.size, volume.state, volume.created) == ("other", 1, model.AVAILABLE, before.created)
    assert list_files(tmp_path) == [[f"volume-{before.id}"], [f"volume-{volume.id}"]]
    copy = tmp_path / "others" / f"volume-{volume.id}"
    assert checksum(copy) == wanted
    assert copy.stat().st_blocks * 512 < 32 * 2**20, "what is zero takes no room"
    assert devices(tmp_path) == []
    assert [(f.kind, f.backend, f.name) for f in pair.check().findings(kinds=["moved", "orphan", "gone", "half_done"])] == [
        ("moved", "local", "data")
    ]
    # It is as usable as before.
    assert pair.execute("connect", {"name": "data", "connector": CONNECTOR}, "web1")["connection_info"]["data"]["device_path"] == str(copy)
    again = move(pair)
    assert (again["checksum"], again["move"]["source_id"]) == (None, before.id)
    with pytest.raises(FailedPreconditionError, match="migrate_finish data web1"):
        pair.moves.migrate(owner="web1", name="data", backend="local")
    assert pair.moves.finish(owner="web1", name="data")["removed"]["source_id"] == before.id
    assert pair.moves.finish(owner="web1", name="data") == {"removed": None}
    assert list_files(tmp_path) == [[], [f"volume-{volume.id}"]]
    assert pair.catalog.moves() == []


def test_there_and_back_with_the_former_one_deleted(pair, tmp_path):
    wanted = make(pair, tmp_path)
    assert move(pair, delete_old=True)["move"] is None
    assert [len(names) for names in list_files(tmp_path)] == [0, 1]
    assert pair.moves.migrate(owner="web1", name="data", backend="local", delete_old=True)["checksum"] == wanted
    assert [len(names) for names in list_files(tmp_path)] == [1, 0]


def test_a_moved_volume_can_be_given_and_deleted_and_its_former_one_is_not_forgotten(pair, tmp_path, short):
    make(pair, tmp_path)
    move(pair)
    pair.transfers.give(owner="web1", name="data", new_owner="db1", new_name="pg")
    pair.execute("delete", {"name": "pg"}, "db1")
    assert [len(names) for names in list_files(tmp_path)] == [1, 0]
    assert pair.moves.finish(owner="db1", name="pg")["removed"]
    assert list_files(tmp_path) == [[], []]


def test_labels_protection_and_fences_go_along(pair, tmp_path, short):
    make(pair, tmp_path)
    pair.call("update", {"name": "data", "owner": "web1", "labels": {"env": "prod"}, "protected": True}, Caller())
    pair.execute("connect", {"name": "data", "connector": CONNECTOR}, "web1")
    pair.call("disconnect", {"name": "data", "owner": "web1", "host": "web1", "fenced": True}, Caller())
    move(pair)
    assert [v.backend for v, _ in listing.find(pair.catalog, listing.Filter.from_user(labels="env=prod"))] == ["other"]
    with pytest.raises(FailedPreconditionError, match="while that was fenced"):
        pair.execute("connect", {"name": "data", "connector": CONNECTOR}, "web1")
    with pytest.raises(FailedPreconditionError, match="protected"):
        pair.adoption.unmanage(owner="web1", name="data")


def test_r18_moved_and_given_away_the_fenced_host_knows_it_by_its_former_id(pair, tmp_path, short):
    make(pair, tmp_path)
    former = pair.catalog.volume("web1", "data").id
    pair.execute("connect", {"name": "data", "connector": CONNECTOR}, "web1")
    pair.call("disconnect", {"name": "data", "owner": "web1", "host": "web1", "fenced": True}, Caller())
    move(pair)
    now = pair.catalog.volume("web1", "data").id
    pair.transfers.give(owner="web1", name="data", new_owner="db1")
    assert pair.execute("inventory", {}, "web1")["fenced"] == [[former, now]]
    (found,) = pair.check().findings(kinds="fenced_host")
    assert (found.owner, found.name, "it is 'data' of db1 by now" in found.text) == ("web1", "data", True)
    pair.execute("disconnect", {"name": "data", "volume_id": former}, "web1")
    assert pair.catalog.fences() == []


def test_a_volume_in_use_does_not_move(pair, tmp_path):
    make(pair, tmp_path)
    pair.execute("snapshot_create", {"name": "cut", "volume": "data"}, "web1")
    with pytest.raises(FailedPreconditionError, match="'cut'"):
        move(pair)
    pair.execute("snapshot_delete", {"name": "cut"}, "web1")
    pair.execute("connect", {"name": "data", "connector": CONNECTOR}, "web1")
    with pytest.raises(FailedPreconditionError, match="connected to web1"):
        move(pair)
    for backend in ("nowhere", None):
        with pytest.raises(InvalidArgumentError):
            pair.moves.migrate(owner="web1", name="data", backend=backend)
    assert (pair.catalog.moves(), pair.catalog.volume("web1", "data").state) == ([], model.AVAILABLE)


def test_a_copy_that_differs_is_thrown_away(pair, tmp_path, monkeypatch, short):
    """One byte of the copy goes bad between writing and comparing."""
    make(pair, tmp_path)
    compare = copying.verify

    def spoiled(source, target, wanted):
        with open(target, "r+b") as file:
            file.seek(2**20)
            file.write(b"\0")
            os.fsync(file)
        compare(source, target, wanted)

    monkeypatch.setattr(copying, "verify", spoiled)
    before = pair.catalog.volume("web1", "data")
    with pytest.raises(DataLossError, match="copy differs"):
        move(pair)
    assert pair.catalog.volume("web1", "data") == before
    assert list_files(tmp_path) == [[f"volume-{before.id}"], []]
    assert (pair.catalog.moves(), devices(tmp_path)) == ([], [])


def test_a_target_without_room_leaves_nothing(pair, tmp_path, monkeypatch):
    make(pair, tmp_path)
    provider = pair.core.provider("other")
    monkeypatch.setattr(type(provider), "connect", _failing(type(provider).connect, "other"))
    with pytest.raises(UnavailableError):
        move(pair)
    assert [len(names) for names in list_files(tmp_path)] == [1, 0]
    assert (pair.catalog.moves(), devices(tmp_path)) == ([], [])
    assert pair.catalog.volume("web1", "data").state == model.AVAILABLE


def _failing(connect, backend):
    def fail(self, *args, **kwargs):
        if self.config.name == backend:
            raise UnavailableError("the array does not answer")
        return connect(self, *args, **kwargs)

    return fail


def test_a_move_on_another_controller_is_left_to_it(two, tmp_path, short):
    """Only that controller can detach its own attachments."""
    service = Service(two)
    make(service, tmp_path)
    assert _killed(two, 9)
    elsewhere = Service({**two, "id": "master2_master"})
    with pytest.raises(FailedPreconditionError, match="attached on the controller web1"):
        elsewhere.execute("connect", {"name": "data", "connector": CONNECTOR}, "web1")
    service.execute("connect", {"name": "data", "connector": CONNECTOR}, "web1")
    assert (devices(tmp_path), len(list_files(tmp_path)[1])) == ([], 0)
    for one in (service, elsewhere):
        one.close()


@pytest.mark.parametrize("step", [9, 11])
def test_a_move_on_a_controller_that_is_gone_is_undone_once_that_is_fenced(two, tmp_path, short, step):
    """Both volumes are attached, or the source is detached and still mapped. When the controller
    is back, it discards its attachments.
    """
    two["storage"]["database"] = f"sqlite:///{tmp_path}/common/catalog.sqlite"
    two["storage"]["coordination"] = f"file://{tmp_path}/common/locks"
    dead, alive = ({**two, "id": name, "storage": {**two["storage"], "state_dir": str(tmp_path / name)}} for name in ("web1", "db1"))
    with contextlib.closing(Service(dead)) as service:
        wanted = make(service, tmp_path, SHORT)
    assert _killed(dead, step)
    # The file driver deletes no file with a loop device on this machine, which plays both
    # controllers here.
    for path, file in loop.backing_files():
        if file.startswith(str(tmp_path / "others")):
            assert loop.detach(path)
    left = devices(tmp_path)

    with contextlib.closing(Service(alive)) as service:
        volume = service.catalog.volume("web1", "data")
        for fenced in (None, "web2"):
            (told,) = service.repair().run(apply=True, fenced=fenced)
            assert (told["done"], told["code"]) == (False, "FAILED_PRECONDITION")
            assert "salt-run storage.repair fenced=web1 apply=True" in told["error"]
        assert [(told["name"], told["done"]) for told in service.repair().run(fenced="web1")] == [("data", False)]
        assert (len(service.catalog.moves()), service.catalog.volume("web1", "data").state) == (1, model.MIGRATING)
        (told,) = service.repair().run(apply=True, fenced="web1")
        assert told["done"], told
        assert service.catalog.volume("web1", "data") == dataclasses.replace(volume, state=model.AVAILABLE)
        assert (service.catalog.moves(), list_files(tmp_path)) == ([], [[f"volume-{volume.id}"], []])
        assert devices(tmp_path) == left, "what another machine has is not detached here"
        # Nothing of it is mapped any more.
        row = service.core.provider("local").need_row(volume.id)
        assert (list(row.connections), row._ovo.status) == ([], "available")
        copy = move(service)["volume"]["id"]

    with contextlib.closing(Service(dead)) as service:
        service.execute("create", {"name": "next", "size": 1}, "web1")
        service.moves.migrate(owner="web1", name="next", backend="other", delete_old=True)
        assert (devices(tmp_path), os.listdir(tmp_path / "web1/mover/attachments")) == ([], [])
        assert service.moves.finish(owner="web1", name="data")["removed"]["source_id"] == volume.id
        assert checksum(tmp_path / "others" / f"volume-{copy}", SHORT) == wanted


def test_a_copy_skips_only_zeros_of_both_sides(tmp_path):
    """A target that is not empty ends up the same, also where the source has zeros."""
    source, target = tmp_path / "a", tmp_path / "b"
    source.write_bytes(b"\0" * (2**20 + 5) + b"x" * 7)
    target.write_bytes(b"y" * 2**21)
    wanted = copying.copy(str(source), str(target))
    copying.verify(str(source), str(target), wanted)
    assert target.read_bytes() == source.read_bytes() + b"y" * (2**20 - 12)
    with pytest.raises(FailedPreconditionError, match="has 1048588 bytes, and the source 2097152"):
        copying.copy(str(target), str(source))


STEPS = ((Catalog, ("apply", "update", "remove")), (Consumer, ("attach", "detach", "forget")), (copying, ("copy", "verify")))
CALLS = ("create_volume", "delete_volume", "connect", "disconnect")


def _killed(opts, step, **more):
    """Move in a child that dies before step number ``step``; return whether it got that far."""

    def do():
        service = Service(opts)
        _die_at(step, type(service.core.provider("local")))
        move(service, **more)

    return killed(do)


def _die_at(step, provider):
    left = [step]

    def dying(function):
        @functools.wraps(function)
        def call(*args, **kwargs):
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*args, **kwargs)

        return call

    for owner, names in (*STEPS, (provider, CALLS)):
        for name in names:
            setattr(owner, name, dying(getattr(owner, name)))


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("how", ["next start", "next request", "repair"])
def test_a_move_killed_at_each_step(two, tmp_path, how, short):
    died, steps = True, 0
    while died:
        steps += 1
        two["storage"]["state_dir"] = str(tmp_path / f"state-{steps}")
        service = Service(two)
        wanted = make(service, tmp_path, SHORT)
        service.close()

        died = _killed(two, steps, delete_old=True)

        service = Service(two)
        # The catalog accounts for both copies before anything is recovered.
        known = {v.id for v in service.catalog.volumes()} | {i for m in service.catalog.moves() for i in (m.source_id, m.target_id)}
        assert {n.removeprefix("volume-") for names in list_files(tmp_path) for n in names} <= known, steps
        if how == "next start":
            for backend in ("local", "other"):
                service.recovery.run(backend)
        elif how == "repair":
            assert all(a["done"] for a in service.repair().run(apply=True)), steps
        else:
            service.execute("connect", {"name": "data", "connector": CONNECTOR}, "web1")
            service.execute("disconnect", {"name": "data"}, "web1")
        volume = service.catalog.volume("web1", "data")
        assert volume.state == model.AVAILABLE
        assert checksum(tmp_path / {"local": "volumes", "other": "others"}[volume.backend] / f"volume-{volume.id}", SHORT) == wanted, steps
        assert devices(tmp_path) == [], steps
        # A repetition ends as if nothing had happened.
        assert move(service, delete_old=True)["volume"]["backend"] == "other"
        assert [len(names) for names in list_files(tmp_path)] == [0, 1], steps
        assert service.catalog.moves() == []
        service.execute("delete", {"name": "data"}, "web1")
        assert list_files(tmp_path) == [[], []]
        service.close()
    assert steps > 12, "the operation has too few steps for the test to have killed anything"


def test_a_read_that_fails_says_why(tmp_path):
    with pytest.raises(StorageError, match="No such file"):
        copying.copy(str(tmp_path / "none"), str(tmp_path / "none"))
