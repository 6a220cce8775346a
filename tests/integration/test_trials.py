"""A backend is tried with a host, with real daemons, while the controller serves."""

from __future__ import annotations

import pytest

from tests.integration.cluster import Cluster, volume_files

pytestmark = [pytest.mark.root, pytest.mark.slow]


def test_a_backend_that_serves_is_tried_with_a_minion(cluster: Cluster) -> None:
    before = volume_files(cluster)
    rows = cluster.run("storage.validate", "local", minion="alpha")
    assert {row["result"] for row in rows} == {"ok"}, rows
    [mapped] = [row["text"] for row in rows if row["step"] == "map"]
    assert mapped == "for alpha, by local"
    assert volume_files(cluster) == before


def test_a_minion_that_does_not_answer_is_named(cluster: Cluster) -> None:
    failed = cluster.run("storage.validate", "local", minion="gamma")
    assert failed["code"] == "UNAVAILABLE"
    assert "minion 'gamma' did not tell its initiators" in failed["error"]
