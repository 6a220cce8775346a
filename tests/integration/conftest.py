"""The clusters that the integration tests share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.cluster import Cluster
from tests.integration.cluster import cluster as make_cluster

FILES = Path(__file__).parent / "files"


@pytest.fixture(scope="session")
def cluster(salt_factories: Any) -> Iterator[Cluster]:
    """Yield a master with the project's engine on the file driver, and the minions ``alpha`` and ``beta``."""
    with make_cluster(salt_factories) as found:
        yield found


@pytest.fixture(scope="module")
def bus_cluster(salt_factories: Any) -> Iterator[Cluster]:
    """Yield a cluster whose engine serves test operations instead of storage; see ``files/_engines/bustest.py``."""
    with make_cluster(salt_factories, engines=[{"bustest": {}}], consumer={"answer_timeout": 5}, files=(FILES,)) as found:
        yield found
