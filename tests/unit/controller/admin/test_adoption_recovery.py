"""A controller that is killed while it takes over a volume, or lets it go: the volume on the array
is never lost.

A step is each statement that writes to the catalog or to the metadata, each commit, and each
change of a file. The working process is forked and kills itself with SIGKILL before a given step.
The next process then reaches one of two good states: the volume is in the catalog and can be used,
or nothing knows it and it can be taken over.
"""

from __future__ import annotations

import os
import signal

import pytest

from saltstorage import model
from saltstorage.controller.service import Service
from tests.unit.controller.killing import killed

pytestmark = pytest.mark.slow

DATA = b"precious" * 512
NAME = {"name": "data", "owner": "web1"}
FILE_CALLS = ("rename", "link", "unlink", "chmod", "truncate", "ftruncate", "fsync")


def manage(service, reference="old.img"):
    return service.adoption.manage(**NAME, reference=reference)


OPERATIONS = {
    "manage": manage,
    "unmanage": lambda service: service.adoption.unmanage(**NAME),
    "retain": lambda service: service.execute("delete", {"name": "data", "retain": True}, "web1"),
}


def killed_at(opts, operation, step):
    """Carry out an operation in a child that dies before step number ``step``; return whether it
    got that far.
    """

    def do():
        service = Service(opts)
        service.core.provider("local")
        die_at(step)
        operation(service)

    return killed(do)


def die_at(step):
    from sqlalchemy import event
    from sqlalchemy.engine import Engine

    left = [step]

    def count():
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def executes(_connection, _cursor, statement, *_):
        if not statement.lstrip().upper().startswith(("SELECT", "PRAGMA")):
            count()

    def dying(function):
        def call(*args, **kwargs):
            count()
            return function(*args, **kwargs)

        return call

    event.listen(Engine, "before_cursor_execute", executes)
    event.listen(Engine, "commit", lambda _connection: count())
    for name in FILE_CALLS:
        setattr(os, name, dying(getattr(os, name)))


def go_on(service, how, operation):
    """Do the work that follows the crash."""
    if how == "next start":
        service.recovery.run("local")
    elif how == "repair":
        assert all(told["done"] for told in service.repair().run(kinds="half_done", apply=True))
    else:
        operation(service)


def beginning(path):
    with path.open("rb") as file:
        return file.read(len(DATA))


def state_of(service, folder, where):
    """Assert that the volume is in one of the two good states; return its name there and whether
    it is the catalog's.
    """
    files = {path.name: beginning(path) for path in folder.iterdir()}
    assert list(files.values()) == [DATA], (where, files.keys())
    [name] = files
    listed = service.core.provider("local").list_volumes()
    assert [(found.reference["source-name"], found.size) for found in listed] == [(name, 1)], where
    volumes = service.catalog.volumes()
    assert [found.known for found in listed] == [bool(volumes)], (where, "catalog and metadata differ")
    assert [(v.state, f"volume-{v.id}", v.formatted, v.size) for v in volumes] == [(model.AVAILABLE, name, True, 1)] * len(volumes), where
    assert service.check().findings(kinds="half_done") == [], where
    return name, bool(volumes)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("how", ["next start", "repair", "next request"])
@pytest.mark.parametrize("case", OPERATIONS)
def test_killed_at_each_step(opts, tmp_path, case, how):
    operation = OPERATIONS[case]
    folder = tmp_path / "volumes"
    folder.mkdir(mode=0o700)
    died, steps, ends = True, 0, set()
    while died:
        steps += 1
        where = (case, how, steps)
        # The kernel frees a dead process's locks, its directories stay: each step has its own.
        opts["storage"]["state_dir"] = str(tmp_path / f"state-{steps}")
        (folder / "old.img").write_bytes(DATA)
        if case != "manage":
            service = Service(opts)
            manage(service)
            service.close()

        died = killed_at(opts, operation, steps)

        service = Service(opts)
        go_on(service, how, operation)
        name, ours = state_of(service, folder, where)
        ends.add(ours)
        # Either state allows to go on: to the end of the interrupted work, and back.
        if case != "manage":
            operation(service)
            name, ours = state_of(service, folder, where)
            assert not ours, where
        if not ours:
            manage(service, name)
            assert state_of(service, folder, where)[1], where
        OPERATIONS["unmanage"](service)
        name, ours = state_of(service, folder, where)
        assert not ours, where
        (folder / name).unlink()
        service.close()
    assert steps > 5, "the operation has too few steps for the test to have killed anything"
    assert ends == ({True} if case == "manage" and how == "next request" else {False} if how == "next request" else {True, False})
