"""Connections of hosts."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import uuid

import pytest

from saltstorage.providers import Capability, FailedPreconditionError, NotFoundError
from tests.conftest import CHECKOUT


def test_answer_is_connection_information(world):
    """Plain data in Cinder's form, with the access mode."""
    _id, info = world.connect(world.volume(), "host1")
    assert json.loads(json.dumps(info)) == info
    assert isinstance(info["driver_volume_type"], str)
    assert info["data"]["access_mode"] == "rw"


def test_a_read_only_connection_says_so(world):
    _id, info = world.connect(world.volume(), "host1", read_only=True)
    assert info["data"]["access_mode"] == "ro"


def test_connect_again_returns_the_same(world):
    """C4: no second mapping, and one disconnect is enough."""
    volume = world.volume()
    connection_id, first = world.connect(volume, "host1")
    _id, second = world.connect(volume, "host1", connection_id=connection_id)
    assert first == second
    world.disconnect(volume, connection_id, "host1")
    assert world.provider.delete_volume(volume) is True


def test_disconnect_can_be_repeated(world, connector):
    """U2, U3: not connected, never connected and no such volume are no errors."""
    volume = world.volume()
    connection_id, _info = world.connect(volume, "host1")
    for _ in range(3):
        world.provider.disconnect(volume, connection_id, connector("host1"), last=True)
    world.provider.disconnect(volume, str(uuid.uuid4()), connector("host2"), last=True)
    world.provider.disconnect(world.new(), str(uuid.uuid4()), connector("host2"), last=True)


def test_a_missing_volume_is_not_connected(world, connector):
    """C2."""
    with pytest.raises(NotFoundError):
        world.provider.connect(world.new(), str(uuid.uuid4()), connector("host1"))


def test_c3_a_host_that_cannot_connect_is_known_before_a_volume_is_created(world, connector):
    """Of a host with no initiator at all, both calls say the same."""
    bare = {key: connector("host1")[key] for key in ("platform", "os_type", "ip", "host", "multipath")}
    volume, connection_id = world.volume(), str(uuid.uuid4())
    answers = []
    for ask in (lambda: world.provider.check_connector(bare), lambda: world.provider.connect(volume, connection_id, bare)):
        try:
            ask()
        except NotFoundError:
            answers.append("refused")
        else:
            answers.append("taken")
    world.provider.disconnect(volume, connection_id, bare, last=True)
    assert answers in (["refused"] * 2, ["taken"] * 2)


def test_connected_volume_is_not_deleted(world):
    """D4, R15."""
    volume = world.volume()
    connection_id, _info = world.connect(volume, "host1")
    with pytest.raises(FailedPreconditionError):
        world.provider.delete_volume(volume)
    assert world.provider.volume_size(volume) == volume.size
    world.disconnect(volume, connection_id, "host1")


def test_two_hosts(world, needs, connector):
    """U9, R14: the first leaves, the second stays connected."""
    needs(Capability.MULTIATTACH)
    volume = world.volume()
    first, _info = world.connect(volume, "host1")
    second, info = world.connect(volume, "host2")
    world.provider.disconnect(volume, first, connector("host1"), last=False)
    _id, again = world.connect(volume, "host2", connection_id=second)
    assert again == info
    world.provider.disconnect(volume, second, connector("host2"), last=True)


def test_restore_can_be_called_at_any_time(world):
    """R16: for a connected volume."""
    volume = world.volume()
    connection_id, info = world.connect(volume, "host1")
    assert world.provider.exports_intact() in (None, True)
    world.provider.restore(volume)
    assert world.connect(volume, "host1", connection_id=connection_id)[1] == info


def test_r16_another_controller_process_knows_the_connection(world, backend, backend_config, connector):
    """Everything that the provider must remember is in its metadata or on the array."""
    volume = world.volume()
    connection_id, info = world.connect(volume, "host1")
    asked = {
        "provider": backend.provider,
        "config": dataclasses.asdict(backend_config),
        "volume": {"id": volume.id, "size": volume.size},
        "connection": connection_id,
        "connector": connector("host1"),
    }
    command = [sys.executable, "-m", "tests.conformance.again"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        command, input=json.dumps(asked), env=environment, cwd=CHECKOUT, capture_output=True, text=True, check=False, timeout=180
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == {"size": volume.size, "info": info}
    world.disconnect(volume, connection_id, "host1")
    assert world.provider.delete_volume(volume) is True
