"""The clusters that the integration tests share."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import salt.utils.event

from saltstorage.controller.access.locks import Locks, volume_key
from saltstorage.controller.catalog.catalog import Catalog
from tests.integration.cluster import Cluster, loops, volume_files
from tests.integration.cluster import cluster as make_cluster

FILES = Path(__file__).parent / "files"


@pytest.fixture(scope="session")
def salt_factories_default_root_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder for the programs that start the daemons, which salt-factories keeps: each
    names the environment whose Salt it runs, and a machine may have several.
    """
    return tmp_path_factory.mktemp("factories")


@pytest.fixture(scope="session")
def cluster(salt_factories: Any) -> Iterator[Cluster]:
    """Yield a master with the project's engine on the file driver, and the minions ``alpha`` and
    ``beta``.
    """
    # Until an engine that was killed runs again, a machine that runs two files of tests may need
    # longer than the default of 10 s.
    with make_cluster(salt_factories, consumer={"answer_timeout": 60}) as found:
        yield found


@pytest.fixture(scope="module")
def bus_cluster(salt_factories: Any) -> Iterator[Cluster]:
    """Yield a cluster whose engine serves test operations instead of storage; see
    ``files/_engines/bustest.py``.
    """
    with make_cluster(salt_factories, engines=[{"bustest": {}}], consumer={"answer_timeout": 5}, files=(FILES,)) as found:
        yield found


@pytest.fixture
def catalog(cluster: Cluster) -> Iterator[Catalog]:
    """The controller's catalog, read beside the running engine."""
    catalog = Catalog(f"sqlite:///{cluster.root}/controller/catalog.sqlite")
    yield catalog
    catalog.close()


@pytest.fixture
def clean(cluster: Cluster, catalog: Catalog) -> Iterator[None]:
    """Undo all that a test left, so that the next test starts with nothing."""
    yield
    for minion in cluster.minions:
        connected = [connection.volume for connection in catalog.connections(host=minion)]
        left = [("unmounted", name) for name in connected] + [("disconnected", name) for name in connected]
        left += [("absent", volume.name) for volume in catalog.volumes(owner=minion)]
        if left:
            # One job: its start takes longer than its work.
            sls = {f"{function} {name}": {f"storage_volume.{function}": [{"name": name}]} for function, name in left}
            cluster.apply(minion, "#!json\n" + json.dumps(sls))
    assert catalog.volumes() == []
    assert volume_files(cluster) == []
    assert loops(cluster) == []


@pytest.fixture
def busy(cluster: Cluster) -> Iterator[Callable[[str], AbstractContextManager[None]]]:
    """A function that keeps a volume of alpha busy while a context lasts, as a long operation of
    another process would.
    """
    locks = Locks(f"file://{cluster.root}/controller/locks", 1)
    yield lambda name: locks.held(volume_key("alpha", name), why="the test")
    locks.close()


@pytest.fixture
def heard(cluster: Cluster) -> Iterator[Callable[..., Any]]:
    """A function that returns the first event of the master's bus of those that begin with a
    tag.
    """
    opts = dict(cluster.master.config)
    with salt.utils.event.get_event("master", sock_dir=opts["sock_dir"], opts=opts, listen=True) as bus:
        yield lambda tag, wait=30: bus.get_event(wait=wait, tag=tag, match_type="startswith", full=True)
