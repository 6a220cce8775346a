"""A host that connects again with other initiators: installed anew, with another adapter, or
another host altogether.
"""

from __future__ import annotations

import functools
import os
import signal

import pytest

from saltstorage.controller.catalog.catalog import Catalog
from saltstorage.controller.cinder.provider import CinderlibProvider
from saltstorage.controller.operations.core import Caller
from saltstorage.controller.service import Service
from saltstorage.errors import NotFoundError, StorageError
from tests import needs
from tests.tgtd import Host, Tgtd
from tests.unit.controller.killing import killed
from tests.unit.controller.masking_driver import MaskingDriver

pytestmark = pytest.mark.slow

A, B, C, NODE = (f"500143802426bad{digit}" for digit in "1238")
OLD = {"host": "web1", "ip": "192.0.2.1", "initiator": "iqn.2024-01.org.example:old"}
NEW = {**OLD, "initiator": "iqn.2024-01.org.example:new"}
PORTS = {"host": "web1", "ip": "192.0.2.1", "wwpns": [A, B], "wwnns": [NODE]}
#: The host's first connector, its second one, and the initiators that the array lets in then.
CASES = {
    "another name": (OLD, NEW, [NEW["initiator"]]),
    "another adapter": (PORTS, {**PORTS, "wwpns": [C]}, [C]),
    "another port": (PORTS, {**PORTS, "wwpns": [B, C]}, [A, B, C]),
    "a port is down": (PORTS, {**PORTS, "wwpns": [B]}, [A, B]),
}


@pytest.fixture
def opts(opts):
    opts["storage"]["backends"]["local"]["volume_driver"] = "tests.unit.controller.masking_driver.MaskingDriver"
    return opts


@pytest.fixture
def mapped(tmp_path):
    """A function that lists the initiators that the array lets in to any volume."""
    return lambda: sorted(path.name[44:] for path in (tmp_path / "volumes").glob("mapped-*"))


def connect(service, connector, **how):
    return service.execute("connect", {"name": "data", "connector": connector, **how}, connector["host"])


@pytest.mark.parametrize("case", CASES)
def test_r17_no_initiator_is_forgotten(service, mapped, case):
    """R17, and R18: a volume that was given to another minion is within reach of that minion
    alone.
    """
    before, now, expected = CASES[case]
    service.execute("create", {"name": "data", "size": 1}, "web1")
    connect(service, before)
    connect(service, now)
    assert mapped() == expected
    connect(service, now)
    assert mapped() == expected
    assert len(service.catalog.connections()) == 1
    service.execute("disconnect", {"name": "data"}, "web1")
    assert mapped() == []
    service.transfers.give(owner="web1", name="data", new_owner="db1")


@pytest.mark.parametrize(
    ("before", "now"),
    [
        (OLD, {**OLD, "ip": "192.0.2.9", "nqn": "nqn.2014-08.org.nvmexpress:web1", "uuid": "u"}),
        (PORTS, {**PORTS, "ip": "192.0.2.9", "wwpns": [B]}),
    ],
    ids=["iscsi", "fibre channel"],
)
def test_c4_initiators_that_no_driver_of_the_protocol_uses_unmap_nothing(service, before, now):
    service.execute("create", {"name": "data", "size": 1}, "web1")
    first = connect(service, before)
    second = connect(service, now)
    assert (second["new"], second["connection"]["id"]) == (False, first["connection"]["id"])


def test_c3_a_host_whose_initiator_cannot_be_read_keeps_what_it_has(service, mapped):
    service.execute("create", {"name": "data", "size": 1}, "web1")
    connect(service, OLD)
    with pytest.raises(StorageError):
        connect(service, {**OLD, "initiator": None})
    assert mapped() == [OLD["initiator"]]
    service.execute("disconnect", {"name": "data"}, "web1")
    assert mapped() == []


def test_c3_no_volume_is_created_for_a_host_without_initiator(service, tmp_path):
    """The message names the pillar key that mends it."""
    with pytest.raises(NotFoundError, match="storage:consumer:protocols"):
        connect(service, {**OLD, "initiator": None}, create={"size": 1})
    assert service.catalog.volume("web1", "data") is None
    assert not list((tmp_path / "volumes").glob("volume-*"))
    assert connect(service, OLD, create={"size": 1})["old"] is None


def test_u9_other_hosts_of_a_shared_volume_keep_their_mapping(opts, mapped):
    opts["storage"]["policy"] = {"*": {"shared": ["data"]}}
    service = Service(opts)
    service.call("create", {"name": "data", "size": 1, "owner": "shared"}, Caller())
    other = {"host": "db1", "initiator": "iqn.2024-01.org.example:db"}
    kept = connect(service, other, owner="shared")["connection"]
    connect(service, OLD, owner="shared", mounts=False)
    connect(service, NEW, owner="shared")
    assert mapped() == sorted([NEW["initiator"], other["initiator"]])
    assert kept in [c.to_wire() for c in service.catalog.connections()]
    service.close()


def test_r17_an_old_initiator_that_cannot_be_unmapped_is_tried_again(service, mapped, monkeypatch):
    service.execute("create", {"name": "data", "size": 1}, "web1")
    connect(service, OLD)

    def fail(*args, **kwargs):
        raise RuntimeError("array said no")

    with monkeypatch.context() as patch:
        patch.setattr(MaskingDriver, "terminate_connection", fail)
        with pytest.raises(StorageError):
            connect(service, NEW)
    assert mapped() == [OLD["initiator"]]
    connect(service, NEW)
    assert mapped() == [NEW["initiator"]]


def die_at(step, persistence):
    """Have this process kill itself before one of the writes to the catalog or cinderlib's
    metadata, or calls of the driver.
    """
    left = [step]

    def dying(function):
        @functools.wraps(function)
        def call(*args, **kwargs):
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*args, **kwargs)

        return call

    for owner, names in (
        (Catalog, ("add", "update", "remove")),
        (CinderlibProvider, ("connect", "disconnect")),
        (persistence, ("set_connection", "delete_connection")),
        (MaskingDriver, ("initialize_connection", "terminate_connection", "remove_export")),
    ):
        for name in names:
            setattr(owner, name, dying(getattr(owner, name)))


@pytest.mark.parametrize("then", ["connect", "disconnect", "recover"])
@pytest.mark.parametrize("case", ["another name", "another port"])
def test_r17_c9_killed_at_each_step(opts, tmp_path, mapped, case, then):
    """R17, C9: any next request finishes it, and every initiator that the array lets in has a
    record.
    """
    before, now, expected = CASES[case]
    steps, died = 0, True
    while died:
        steps += 1
        # The kernel frees a dead process's locks, its directories stay: each step has its own.
        opts["storage"]["state_dir"] = str(tmp_path / f"state-{steps}")
        service = Service(opts)
        service.execute("create", {"name": "data", "size": 1}, "web1")
        connect(service, before)
        service.close()

        def do(step=steps):
            service = Service(opts)
            die_at(step, type(service.core.provider("local")._backend.persistence))
            connect(service, now)

        died = killed(do)
        service = Service(opts)
        if then == "recover":
            service.recovery.run("local")
            assert bool(mapped()) == bool(service.catalog.connections()), steps
        if then == "connect":
            connect(service, now)
            assert mapped() == expected, steps
        service.execute("disconnect", {"name": "data"}, "web1")
        assert mapped() == [], steps
        service.execute("delete", {"name": "data"}, "web1")
        service.close()
    assert steps > 4, "there are too few steps for the test to have killed anything"


@pytest.mark.root
def test_r17_a_target_is_open_to_the_new_initiator_alone(opts, tmp_path, short_dir, free_port, monkeypatch):
    """R17: also after the target was restored, and never to the old one again."""
    needs.programs("tgtd", "iscsi-inq")
    tgtd, old, new = Tgtd(short_dir, free_port), Host("old", free_port), Host("new", free_port)
    monkeypatch.setenv("TGT_IPC_SOCKET", tgtd.socket)
    opts["storage"]["backends"]["local"] = {
        "volume_driver": "saltstorage.drivers.file_iscsi.FileISCSIDriver",
        "file_driver_path": str(tmp_path / "volumes"),
        "volumes_dir": str(tmp_path / "targets"),
        "target_ip_address": "127.0.0.1",
        "target_port": free_port,
    }
    tgtd.start()
    service = Service(opts)
    try:
        service.execute("create", {"name": "data", "size": 1}, "web1")
        connect(service, {**old.connector, "host": "web1"})
        info = connect(service, {**new.connector, "host": "web1"})["connection_info"]
        assert (old.size(info), new.size(info)) == (None, 2**30)
        service.recovery.run("local")
        assert (old.size(info), new.size(info)) == (None, 2**30)
    finally:
        service.close()
        tgtd.kill()
