"""The order of the volumes in pillar, written in any order."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import pytest

from saltstorage.pillar import rendering


def order(volumes: Mapping[str, Any]) -> list[str]:
    """Return the names of the volumes in the order of their states.

    A refused entry has the name of its state.
    """
    names = []
    for body in rendering.volume_states({"volumes": volumes}).values():
        [(function, parameters)] = body.items()
        if not function.startswith("storage_snapshot."):
            names.append(f"{'!' if function.endswith('invalid') else ''}{parameters[0]['name'].removeprefix('storage:volumes:')}")
    return names


GONE = {"state": "absent"}
RULES = {
    "a copy after its source": ({"b": {"size": 1, "source": {"volume": "a"}}, "a": {"size": 1}}, "ab"),
    "a copy of a copy": (
        {"c": {"size": 1, "source": {"volume": "b"}}, "b": {"size": 1, "source": {"volume": "a"}}, "a": {"size": 1}},
        "abc",
    ),
    "a source that is disconnected goes before its copy": (
        {"b": {"size": 1, "source": {"volume": "a"}}, "a": {"state": "disconnected"}},
        "ab",
    ),
    "a source is deleted after its copy": ({"a": GONE, "b": {"size": 1, "source": {"volume": "a"}}}, "ba"),
    "a source is deleted after a copy of its snapshot": ({"a": GONE, "b": {"size": 1, "source": {"snapshot": "a-20260131T235959Z"}}}, "ba"),
    "a copy is deleted before its source": ({"a": GONE, "b": {**GONE, "source": {"volume": "a"}}}, "ba"),
    "an inner mount point after the outer one": ({"b": {"mount": "/srv/a/b"}, "a": {"mount": "/srv/a/"}}, "ab"),
    "far inside": ({"b": {"mount": "/srv/a/x/y/b"}, "a": {"mount": "/srv/a"}}, "ab"),
    "an inner mount point is left first": ({"a": {"mount": "/srv/a", **GONE}, "b": {"mount": "/srv/a/b", "state": "unmounted"}}, "ba"),
    "a mount point is left before another volume takes it": ({"b": {"mount": "/srv"}, "a": {"mount": "/srv", **GONE}}, "ab"),
    "an inner mount point is left before another volume takes the outer one": (
        {"b": {"mount": "/srv"}, "a": {"mount": "/srv/in", "state": "disconnected"}},
        "ab",
    ),
    "an outer mount point is left before another volume comes inside": (
        {"b": {"mount": "/srv/in"}, "a": {"mount": "/srv", "state": "disconnected"}},
        "ab",
    ),
    "a copy that takes the place of its source is made first": (
        {"a": {"mount": "/srv", **GONE}, "b": {"mount": "/srv", "size": 1, "source": {"volume": "a"}}},
        "ba",
    ),
}


@pytest.mark.parametrize("rule", RULES)
def test_m16_each_comes_after_those_that_it_depends_on(rule: str) -> None:
    """Row M16: in any order in pillar, with a volume beside them that depends on none."""
    volumes, wanted = RULES[rule]
    for entries in itertools.permutations([*volumes.items(), ("z", {"size": 1})]):
        assert [name for name in order(dict(entries)) if name != "z"] == list(wanted), entries


def test_other_volumes_stay_as_written() -> None:
    volumes = {name: {"size": 1} for name in "hgfedcba"}
    assert order(volumes) == list("hgfedcba")
    volumes["g"] = {"size": 1, "source": {"volume": "d"}}
    assert order(volumes) == list("hfedgcba")


def test_neighbours_and_volumes_of_another_owner_are_no_dependency() -> None:
    assert order({"b": {"mount": "/srv/ab"}, "a": {"mount": "/srv/a"}}) == ["b", "a"]
    assert order({"b": {"size": 1, "source": {"volume": "a"}}, "a": {"owner": "shared"}}) == ["b", "a"]


def test_a_range_of_copies_comes_after_its_source() -> None:
    volumes = {"c{1..3}": {"size": 1, "source": {"volume": "golden"}}, "golden": {"size": 1}}
    assert order(volumes) == ["golden", "c1", "c2", "c3"]


@pytest.mark.parametrize(
    "volumes",
    [
        {"a": {"size": 1, "source": {"volume": "a"}}},
        {"a": {"size": 1, "source": {"volume": "b"}}, "b": {"size": 1, "source": {"volume": "a"}}},
        {"a": {"size": 1, "mount": "/srv/in"}, "b": {"size": 1, "mount": "/srv", "source": {"volume": "a"}}},
    ],
)
def test_volumes_that_depend_on_one_another_in_a_ring_are_refused(volumes: Mapping[str, Any]) -> None:
    assert order({**volumes, "z": {"size": 1}}) == [*(f"!{name}" for name in sorted(volumes)), "z"]


def test_each_volume_in_a_ring_is_told_the_names_of_that_ring_alone() -> None:
    volumes = {name: {"size": 1, "source": {"volume": source}} for name, source in (("a", "b"), ("b", "a"), ("c", "c"))}
    states = rendering.volume_states({"volumes": volumes})
    comments = {key[-1]: str(body) for key, body in states.items()}
    assert "by mount point: 'a', 'b'" in comments["a"]
    assert comments["a"].count("'c'") == 0
    assert "by mount point: 'c'" in comments["c"]
