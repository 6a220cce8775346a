"""The controller as a service of a user of its own, beside a salt-master that is not root:
installed by the SLS, run by the unit's own command line, and ended in every way.
"""

from __future__ import annotations

import os
import pwd
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import salt.utils.event
import yaml

from saltstorage.controller.access.locks import Locks, volume_key
from tests.filetable import compare
from tests.integration.cluster import Cluster, in_background, state
from tests.integration.cluster import cluster as make_cluster
from tests.servicehost import ServiceHost, account, remove_account, service_host

pytestmark = [pytest.mark.root, pytest.mark.slow]


@pytest.fixture(scope="module")
def own() -> Iterator[str]:
    """The user of the controller, which the SLS makes."""
    name = f"st-s{os.getpid()}"
    yield name
    remove_account(name)


@pytest.fixture(scope="module")
def host(own: str) -> Iterator[ServiceHost]:
    with account(f"st-t{os.getpid()}") as master, service_host(master) as found:
        found.apply(own, hang_timeout=4, policy={"*": {}})
        found.give_volumes(own)
        found.start()
        yield found


@pytest.fixture(scope="module")
def cluster(salt_factories: Any, host: ServiceHost) -> Iterator[Cluster]:
    """Yield a master that has what the SLS wrote for it, and runs as its own user."""
    option = yaml.safe_load(host.master_config.read_text())
    with make_cluster(
        salt_factories,
        engines=option["engines"],
        consumer={"answer_timeout": 60},
        master_options={"storage": option["storage"], "user": host.master},
        master_python=host.python,
    ) as found:
        yield found


@pytest.fixture(autouse=True)
def _clean(cluster: Cluster, host: ServiceHost) -> Iterator[None]:
    yield
    removed = cluster.apply("alpha", state("disconnected", "data")) | cluster.apply("alpha", state("absent", "data"))
    assert all(one["result"] is True for one in removed.values()), removed
    assert list(host.volumes.iterdir()) == []


@contextmanager
def events(cluster: Cluster) -> Iterator[Callable[[str], None]]:
    """Yield a function that waits for an event of the master's bus with a tag."""
    opts = dict(cluster.master.config)
    with salt.utils.event.get_event("master", sock_dir=opts["sock_dir"], opts=opts, listen=True) as bus:

        def wait_for(tag: str) -> None:
            assert bus.get_event(wait=60, tag=tag, match_type="startswith", full=True) is not None, f"no event {tag}"

        yield wait_for


def uids(pid: int) -> set[int]:
    """Return the users of a process and of all its children."""
    import psutil

    process = psutil.Process(pid)
    return {one.uids().real for one in (process, *process.children(recursive=True))}


def connect(cluster: Cluster, **parameters: Any) -> dict[str, Any]:
    return cluster.apply("alpha", state("connected", "data", **{"size": 1, **parameters}))["data"]


def test_a_volumes_life_with_two_users_that_are_not_root(cluster: Cluster, host: ServiceHost, own: str) -> None:
    assert host.process is not None
    assert uids(cluster.master.pid) == {pwd.getpwnam(host.master).pw_uid}
    assert uids(host.process.pid) == {pwd.getpwnam(own).pw_uid}
    first = connect(cluster)
    assert first["result"] is True, first
    assert len(loops_of(host)) == 1
    assert connect(cluster)["changes"] == {}
    grown = connect(cluster, size=2)
    assert (grown["result"], grown["changes"]["size"]) == (True, {"old": 1, "new": 2}), grown
    [row] = cluster.run("storage.volumes")
    assert (row["name"], row["size_gib"], row["owner"]) == ("data", 2, "alpha")
    versions = {found["part"]: found for found in cluster.run("storage.versions")}
    assert versions["controller"]["hint"] == ""
    # The credentials of arrays are closed to the master's user.
    assert compare(host, own) >= {"/etc/salt-storage/controller.yaml", "/run/salt-storage/controller.sock"}
    read = subprocess.run(["cat", str(host.config)], user=host.master, group=host.master, extra_groups=[], capture_output=True, check=False)
    assert (read.returncode, b"Permission denied" in read.stderr) == (1, True)


def loops_of(host: ServiceHost) -> list[str]:
    """Return the loop devices over the volumes."""
    command = ["losetup", "--list", "--noheadings", "--output", "NAME,BACK-FILE"]
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    return [line.split()[0] for line in found.stdout.splitlines() if str(host.volumes) in line]


def test_a_request_waits_while_the_service_is_stopped(cluster: Cluster, host: ServiceHost) -> None:
    host.stop()
    with events(cluster) as wait_for:
        thread, results = in_background(connect, cluster)
        wait_for("storage/request/")
        host.start()
        thread.join()
    [found] = results
    assert found["result"] is True, found


def test_a_request_in_a_service_that_is_killed_is_answered_by_the_next(cluster: Cluster, host: ServiceHost) -> None:
    assert connect(cluster)["result"] is True
    held = Locks(f"file://{host.state}/locks", 1)
    with events(cluster) as wait_for:
        with held.held(volume_key("alpha", "data"), why="the test"):
            thread, results = in_background(connect, cluster, size=3)
            # The controller has begun it, and waits.
            wait_for("storage/progress/")
            host.kill()
        host.start()
        thread.join()
    held.close()
    [found] = results
    assert (found["result"], found["changes"].get("size")) == (True, {"old": 1, "new": 3}), found


def test_the_service_says_again_and_again_that_it_lives(host: ServiceHost) -> None:
    host.hear("WATCHDOG=1")
    host.hear("WATCHDOG=1")
