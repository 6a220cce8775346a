"""A controller that is killed between any two steps of an operation: nothing is lost, doubled or
left over.

A step is each write to the catalog and each call of the provider. The working process is forked,
and kills itself with SIGKILL before a given step; then this process starts the controller again,
as Salt starts an engine again.
"""

from __future__ import annotations

import functools
import os
import signal

import pytest

from saltstorage import model
from saltstorage.controller.catalog.catalog import Catalog
from saltstorage.controller.service import Service
from saltstorage.providers import Provider
from tests.unit.controller.killing import killed

pytestmark = pytest.mark.slow

CONNECTOR = {"host": "web1", "ip": "192.0.2.1", "multipath": False}
NAME = {"name": "data"}
CREATE = ("create", {**NAME, "size": 1})
CONNECT = ("connect", {**NAME, "connector": CONNECTOR})
CUT = ("snapshot_create", {"name": "cut", "volume": "data"})

#: The state before, the interrupted operation, and the facts that hold after it was repeated.
CASES = {
    "create": ([], CREATE, {"volumes": 1, "files": 1}),
    "create and connect": ([], ("connect", {**CONNECT[1], "create": {"size": 1}}), {"volumes": 1, "files": 1, "connections": 1}),
    "copy": ([CREATE], ("create", {"name": "copy", "size": 1, "source": {"volume": "data"}}), {"volumes": 2, "files": 2}),
    "connect": ([CREATE], CONNECT, {"volumes": 1, "files": 1, "connections": 1}),
    "extend": ([CREATE, CONNECT], ("extend", {**NAME, "size": 2}), {"volumes": 1, "files": 1, "connections": 1, "size": 2}),
    "disconnect": ([CREATE, CONNECT], ("disconnect", NAME), {"volumes": 1, "files": 1}),
    "delete": ([CREATE], ("delete", NAME), {}),
    "snapshot": ([CREATE], CUT, {"volumes": 1, "files": 2, "snapshots": 1}),
    "frozen snapshot": ([CREATE], ("snapshot_create", {**CUT[1], "frozen": True}), {"volumes": 1, "files": 2, "snapshots": 1}),
    "return to a snapshot": (
        [CREATE, CUT],
        ("snapshot_revert", {"name": "cut", "confirm": True}),
        {"volumes": 1, "files": 2, "snapshots": 1},
    ),
    "snapshot deletion": ([CREATE, CUT], ("snapshot_delete", {"name": "cut"}), {"volumes": 1, "files": 1}),
}
WRITES = ("add", "update", "remove")
CALLS = ("create_volume", "delete_volume", "extend_volume", "connect", "disconnect", "create_snapshot", "delete_snapshot", "revert_volume")


def run(service, operation):
    return service.execute(operation[0], operation[1], "web1")


def killed_at(opts, operation, step):
    """Carry out an operation in a child that dies before step number ``step``; return whether it
    got that far.
    """

    def do():
        service = Service(opts)
        provider = type(service.core.provider("local"))
        _die_at(step, provider)
        run(service, operation)

    return killed(do)


def _die_at(step: int, provider: type[Provider]) -> None:
    left = [step]

    def dying(function):
        @functools.wraps(function)
        def call(*args, **kwargs):
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*args, **kwargs)

        return call

    for owner, names in ((Catalog, WRITES), (provider, CALLS)):
        for name in names:
            setattr(owner, name, dying(getattr(owner, name)))


@pytest.mark.parametrize("recover", [True, False], ids=["next start", "next request"])
@pytest.mark.parametrize("case", CASES)
def test_killed_at_each_step(opts, tmp_path, files, case, recover):
    before, operation, expected = CASES[case]
    steps = 0
    died = True
    while died:
        steps += 1
        # The kernel frees a dead process's locks, its directories stay: each step has its own.
        opts["storage"]["state_dir"] = str(tmp_path / f"state-{steps}")
        opts["storage"]["backends"]["local"]["file_driver_path"] = str(tmp_path / "volumes")
        service = Service(opts)
        for done in before:
            run(service, done)
        service.close()

        died = killed_at(opts, operation, steps)

        service = Service(opts)
        if recover:
            service.recovery.run("local")
            states = {r.state for r in (*service.catalog.volumes(), *service.catalog.snapshots(), *service.catalog.connections())}
            assert states <= {model.AVAILABLE, model.CONNECTED}, (steps, states)
            _check_files(service, files, steps)
        run(service, operation)
        catalog = service.catalog
        found = {
            "volumes": len(catalog.volumes()),
            "files": len(files()),
            "connections": len(catalog.connections()),
            "snapshots": len(catalog.snapshots()),
        }
        assert {k: v for k, v in found.items() if v} == {k: v for k, v in expected.items() if k != "size"}, steps
        assert all(v.state == model.AVAILABLE for v in catalog.volumes())
        if "size" in expected:
            assert catalog.volume("web1", "data").size == expected["size"]
        _check_files(service, files, steps)
        _delete_all(service)
        assert files() == []
        service.close()
    assert steps > 2, "the operation has too few steps for the test to have killed anything"


def _check_files(service, files, steps):
    ids = {f"volume-{v.id}" for v in service.catalog.volumes()} | {f"snapshot-{s.id}" for s in service.catalog.snapshots()}
    assert set(files()) == ids, steps


def _delete_all(service):
    for connection in service.catalog.connections():
        run(service, ("disconnect", {"name": connection.volume}))
    for snapshot in service.catalog.snapshots():
        run(service, ("snapshot_delete", {"name": snapshot.name}))
    for volume in service.catalog.volumes():
        run(service, ("delete", {"name": volume.name}))
