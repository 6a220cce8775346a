"""State runs of a minion that owns more volumes than one answer of the controller holds."""

import pytest

from saltstorage.controller.operations import inventory
from tests.manyvolumes import fill
from tests.unit.plans.minion import check_result, ok

pytestmark = pytest.mark.slow


@pytest.fixture
def asked(host):
    """The operations that the minion asks the controller for."""
    calls, execute = [], host.service.execute

    def recorded(op, args, caller):
        calls.append(op)
        return execute(op, args, caller)

    host.service.execute = recorded
    return calls


def test_p3_no_change_is_seen_among_6000_volumes(host, asked):
    """P3; and that the first and the last are seen, in a few requests."""
    fill(host.service.catalog, "web1", 6000)
    del asked[:]
    for name in ("v00000", "v05999"):
        assert ok(host.state("present", name, size=10))["changes"] == {}
    assert set(asked) == {"inventory"}
    assert len(asked) < 20
    check_result(host.state("present", "v6000", size=10, test=True), None)
    flow = host.flow
    assert len(flow.inventory().wire["volumes"]) == 6000
    assert [c.host for c in flow.inventory().connections_of(flow.inventory().volume("web1", "v05999"))] == ["web1"]


def test_one_request_for_an_ordinary_minion(host, asked):
    fill(host.service.catalog, "web1", 100, snapshots=3)
    del asked[:]
    assert ok(host.state("present", "v00050", size=10))["changes"] == {}
    assert asked == ["inventory"]


def test_a_run_of_states_knows_its_own_changes_on_all_pages(host, monkeypatch):
    monkeypatch.setattr(inventory, "PAGE", 1)
    for name in ("a", "b"):
        assert ok(host.state("present", name, size=1))["changes"]
    for name in ("a", "b"):
        assert ok(host.state("present", name, size=1))["changes"] == {}
    assert ok(host.state("snapshot_present", "s", volume="b"))["changes"]
    assert ok(host.state("snapshot_present", "s", volume="b"))["changes"] == {}
    # D5: the snapshot is on a later page than its volume.
    refused = host.state("absent", "b")
    assert (refused["result"], "'s'" in refused["comment"]) == (False, True), refused
    assert ok(host.state("snapshot_absent", "s"))["changes"]
    for name in ("a", "b"):
        assert ok(host.state("absent", name))["changes"]
        assert ok(host.state("absent", name))["changes"] == {}
