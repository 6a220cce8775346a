"""A backend that can do no more than every backend must."""

from __future__ import annotations

import pytest

from saltstorage.errors import UnimplementedError
from tests.unit.plans.minion import ok


@pytest.fixture
def bare(host):
    """A minion with a volume on such a backend."""
    host.opts["storage"]["backends"]["local"]["provider"] = "tests.unit.plans.bare_provider.BareProvider"
    host.opts["storage"]["types"] = {"gold": {"extra_specs": {"tier": "1"}}}
    ok(host.state("present", size=1))
    return host


@pytest.mark.parametrize(
    ("function", "name", "given"),
    [
        ("present", "data", {"size": 2}),
        ("present", "copy", {"size": 1, "source": {"volume": "data"}}),
        ("present", "fast", {"size": 1, "type": "gold"}),
        ("connected", "data", {"size": 2}),
        ("connected", "copy", {"size": 1, "source": {"volume": "data"}}),
        ("extended", "data", {"size": 2}),
        ("snapshot_present", "cut", {}),
        ("snapshot_rotated", "daily", {}),
    ],
)
def test_g6_a_state_that_the_backend_cannot_carry_out(bare, function, name, given):
    before = [volume.to_wire() for volume in bare.service.catalog.volumes()]
    done = bare.state(function, name, **given)
    assert (done["result"], done["changes"]) == (False, {}), done
    assert done["comment"].startswith("UNIMPLEMENTED: "), done
    assert "'local'" in done["comment"]
    assert [volume.to_wire() for volume in bare.service.catalog.volumes()] == before
    assert list(bare.service.catalog.snapshots()) == []
    assert bare.service.catalog.connections() == []


def test_g6_an_operation_that_the_backend_cannot_carry_out(bare):
    for call in (
        lambda: bare.service.adoption.manageable("local"),
        lambda: bare.service.adoption.unmanage(name="data", owner="web1"),
    ):
        with pytest.raises(UnimplementedError, match="'local'"):
            call()
    assert ok(bare.state("present", size=1))["changes"] == {}
