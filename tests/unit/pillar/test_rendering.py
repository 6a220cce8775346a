"""Pillar to states: shapes, defaults, and everything a pillar can hold that it should not."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saltstorage.pillar import rendering


def only(states: rendering.States) -> tuple[str, dict[str, Any]]:
    """Return function and parameters of the only state."""
    [(_id, body)] = states.items()
    [(function, parameters)] = body.items()
    return function, {key: value for item in parameters for key, value in item.items()}


def volume(entry: Any, name: Any = "data") -> tuple[str, dict[str, Any]]:
    return only(rendering.volume_states({"volumes": {name: entry}}))


@pytest.mark.parametrize(
    ("entry", "function"),
    [
        ({"size": 1}, "storage_volume.connected"),
        (None, "storage_volume.connected"),
        ({"size": 1, "mount": "/srv"}, "storage_volume.mounted"),
        ({"size": 1, "state": "present"}, "storage_volume.present"),
        ({"size": 1, "mount": "/srv", "state": "connected"}, "storage_volume.connected"),
        ({"size": 1, "mount": "/srv", "state": "unmounted"}, "storage_volume.unmounted"),
        ({"state": "disconnected"}, "storage_volume.disconnected"),
    ],
)
def test_the_state_follows_from_the_entry(entry: Any, function: str) -> None:
    assert volume(entry)[0] == function


def test_parameters_are_passed_as_they_are() -> None:
    entry = {"size": "20GiB", "mount": "/srv", "fstype": "xfs", "mount_options": ["noatime"], "backend": "local"}
    assert volume(entry) == ("storage_volume.mounted", {"name": "data", **entry})


def test_absent_disconnects_first_and_ignores_the_other_keys() -> None:
    """In one state, so that what forbids the deletion is found before anything changes."""
    entry = {"state": "absent", "size": 3, "mount": "/srv"}
    assert volume(entry) == ("storage_volume.absent", {"name": "data", "disconnect": True})
    assert volume({**entry, "retain": True}) == ("storage_volume.absent", {"name": "data", "retain": True, "disconnect": True})
    assert volume({"size": 3, "retain": True}) == ("storage_volume.connected", {"name": "data", "size": 3, "retain": True})


@pytest.mark.parametrize("key", ["disconnect", "series"])
def test_what_absent_does_first_is_not_for_pillar_to_say(key: str) -> None:
    [body] = rendering.volume_states({"volumes": {"data": {"state": "absent", key: "data"}}}).values()
    assert key in body["storage_pillar.invalid"][1]["comment"]


def test_snapshots_come_after_all_volumes() -> None:
    wanted = {"keep": 3, "every": "6h", "freeze": True}
    states = rendering.volume_states(
        {"volumes": {"a": {"size": 1, "snapshots": wanted}, "b": {"size": 1, "snapshots": {}}, "c": {"size": 1}}}
    )
    assert [next(iter(body)) for body in states.values()] == ["storage_volume.connected"] * 3 + ["storage_snapshot.rotated"] * 2
    rotated = [
        {key: value for item in body["storage_snapshot.rotated"] for key, value in item.items()} for body in list(states.values())[3:]
    ]
    assert rotated == [{"name": "a", "volume": "a", **wanted}, {"name": "b", "volume": "b"}]


@pytest.mark.parametrize(("state", "count"), [("present", 1), ("unmounted", 0), ("disconnected", 0)])
def test_snapshots_are_left_alone_where_the_volume_is_not_used(state: str, count: int) -> None:
    states = rendering.volume_states({"volumes": {"a": {"size": 1, "state": state, "snapshots": {"freeze": True}}}})
    assert [next(iter(body)) for body in states.values()].count("storage_snapshot.rotated") == count


def test_absent_deletes_the_snapshots_before_the_volume() -> None:
    states = rendering.volume_states({"volumes": {"a": {"state": "absent", "snapshots": {"keep": 3}}}})
    assert list(states.values()) == [{"storage_volume.absent": [{"name": "a"}, {"disconnect": True}, {"series": "a"}]}]


@pytest.mark.parametrize(
    ("snapshots", "word"),
    [
        ([], "snapshots"),
        (7, "snapshots"),
        ({"keep": "7"}, "keep"),
        ({"every": "x"}, "every"),
        ({"freeze": "yes"}, "freeze"),
        ({"timeout": 0}, "timeout"),
        ({"kep": 1}, "keep"),
    ],
)
def test_wrong_snapshots_name_the_field(snapshots: Any, word: str) -> None:
    function, parameters = volume({"size": 1, "snapshots": snapshots})
    assert function == "storage_pillar.invalid"
    assert word in parameters["comment"]


@pytest.mark.parametrize("more", [{"owner": "shared"}])
def test_snapshots_are_of_own_volumes(more: dict[str, Any]) -> None:
    assert volume({"snapshots": {}, **more})[0] == "storage_pillar.invalid"


@pytest.mark.parametrize("storage", [None, {}, {"volumes": None}, {"volumes": {}}])
def test_no_volumes_is_no_state(storage: Any) -> None:
    assert rendering.volume_states(storage) == {}


@pytest.mark.parametrize("storage", [[], "data", 7, {"volumes": []}, {"volumes": ["data"]}, {"volumes": "data"}, {1: 2}])
def test_g2_wrong_shape_is_one_failing_state(storage: Any) -> None:
    function, parameters = only(rendering.volume_states(storage))
    assert function == "storage_pillar.invalid"
    assert parameters["comment"].startswith("INVALID_ARGUMENT: storage")


@pytest.mark.parametrize(
    ("entry", "field"),
    [
        ([], "storage:volumes:data"),
        ("20GiB", "storage:volumes:data"),
        ({"size": 1, "sizes": 2}, "sizes"),
        ({"size": 1, "onlyif": "touch /tmp/x"}, "onlyif"),
        ({"size": 1, "name": "other"}, "name"),
        ({"size": 0}, "size"),
        ({"size": -1}, "size"),
        ({"size": "ten"}, "size"),
        ({"size": 1.5}, "size"),
        ({"size": 10**9}, "size"),
        ({"size": 1, "state": "gone"}, "state"),
        ({"size": 1, "state": ["present"]}, "state"),
        ({"state": "present"}, "size"),
        ({"size": 1, "state": "mounted"}, "mount"),
        ({"size": 1, "backend": "__slot__:salt:cmd.run(id)"}, "data"),
        ({"size": 1, "mount": "/srv", "mount_options": ["__slot__:salt:cmd.run(id)"]}, "data"),
        ({"size": 1, 2: 3}, "data"),
    ],
)
def test_g2_wrong_entry_names_the_field(entry: Any, field: str) -> None:
    function, parameters = volume(entry)
    assert function == "storage_pillar.invalid"
    assert parameters["comment"].startswith("INVALID_ARGUMENT: ")
    assert field in parameters["comment"]


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a\nb", "a\x7fb", "x" * 129, 2024, True, "__slot__:salt:cmd.run(id)"])
def test_g3_wrong_names_fail_and_hold_up_no_other(name: Any) -> None:
    states = rendering.volume_states({"volumes": {name: {"size": 1}, "good": {"size": 1}}})
    assert [next(iter(body)) for body in states.values()] == ["storage_pillar.invalid", "storage_volume.connected"]
    assert all("\n" not in state_id for state_id in states)


@given(st.text(alphabet=st.characters(blacklist_categories=("Cc", "Cs", "Zl", "Zp")), min_size=1, max_size=32))
def test_g3_any_other_name_is_passed_unchanged(name: str) -> None:
    if "/" in name or name in (".", "..") or name.startswith("__slot__:"):
        return
    assert volume({"size": 1}, name) == ("storage_volume.connected", {"name": name, "size": 1})


@pytest.mark.parametrize(
    "storage",
    [
        None,
        [],
        {},
        {"controller": []},
        {"controller": {"backends": []}},
        {"controller": {"backend": {}}},
        {"controller": {"backends": {"a": "__slot__:x"}}},
    ],
)
def test_controller_problem_has_a_code(storage: Any) -> None:
    assert rendering.controller_problem(storage).startswith(("INVALID_ARGUMENT: ", "FAILED_PRECONDITION: "))


def test_controller_without_problem() -> None:
    assert rendering.controller_problem({"controller": {"backends": {"local": {"volume_driver": "x.y.Driver"}}}}) == ""


# Ranges


def names(states: rendering.States) -> list[str]:
    return [item["name"] for body in states.values() for parameters in body.values() for item in parameters if "name" in item]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("d{1..3}", ["d1", "d2", "d3"]),
        ("osd-{08..11}", ["osd-08", "osd-09", "osd-10", "osd-11"]),
        ("{1..010}", [f"{n:03}" for n in range(1, 11)]),
        ("a {7..7} b", ["a 7 b"]),
        ("{0..1}", ["0", "1"]),
    ],
)
def test_a_range_is_as_many_volumes(name: str, expected: list[str]) -> None:
    states = rendering.volume_states({"volumes": {name: {"size": 1}}})
    assert names(states) == expected
    assert len(states) == len(expected)


@pytest.mark.parametrize("name", ["d{1,2}", "d{a..c}", "d{1...3}", "d{1..}", "d{-1..3}", "{}", "d{١..٣}"])
def test_other_braces_are_a_name(name: str) -> None:
    assert names(rendering.volume_states({"volumes": {name: {"size": 1}}})) == [name]


def test_the_same_range_in_a_value_is_the_same_number() -> None:
    entry = {"size": 1, "mount": "/srv/{01..02}/x{01..02}", "source": {"volume": "s{01..02}"}, "mkfs_options": ["-L", "l{01..02}"]}
    states = rendering.volume_states({"volumes": {"d{01..02}": entry}})
    bodies = [next(iter(body.values())) for body in states.values()]
    for number, body in zip(("01", "02"), bodies, strict=True):
        given = {key: value for item in body for key, value in item.items()}
        assert given == {
            "name": f"d{number}",
            "size": 1,
            "mount": f"/srv/{number}/x{number}",
            "source": {"volume": f"s{number}"},
            "mkfs_options": ["-L", f"l{number}"],
        }


@pytest.mark.parametrize(
    ("volumes", "text"),
    [
        ({"d{1..3}": {"size": 1}, "d2": {"size": 2}}, "there is an entry for 'd2' already"),
        ({"d2": {"size": 2}, "d{1..3}": {"size": 1}}, "there is an entry for 'd2' already"),
        ({"d{3..1}": {"size": 1}, "d2": {"size": 2}}, "stands for 0 volumes"),
        ({"d{1..1001}": {"size": 1}, "d2": {"size": 2}}, "stands for 1001 volumes"),
        ({"d{1..999999}{1..2}": {"size": 1}, "d2": {"size": 2}}, "one range only"),
        ({"d{1..3}x": {"size": 1, "mount": "/srv/x"}, "d2": {"size": 2}}, "all of them would be mounted on '/srv/x'"),
        ({"d{1..3}x": {"size": 1, "mount": "/srv/{1..4}"}, "d2": {"size": 2}}, "has the range {1..4}"),
        ({"d{1..3}x": {"sise": 1}, "d2": {"size": 2}}, "did you mean 'size'"),
        ({"d{1..3}/": {"size": 1}, "d2": {"size": 2}}, "has a '/'"),
        ({"d" * 126 + "{8..10}": {"size": 1}, "d2": {"size": 2}}, "at most 128"),
    ],
)
def test_a_wrong_range_makes_nothing_and_holds_up_nothing(volumes: dict[str, Any], text: str) -> None:
    states = rendering.volume_states({"volumes": volumes})
    wrong = [body["storage_pillar.invalid"] for body in states.values() if "storage_pillar.invalid" in body]
    assert len(wrong) == 1
    assert text in wrong[0][1]["comment"]
    assert [n for n in names(states) if not n.startswith("storage:")] == ["d2"]


def test_two_ranges_that_meet() -> None:
    states = rendering.volume_states({"volumes": {"d{1..3}": {"size": 1}, "d{3..5}": {"size": 2}}})
    assert [n for n in names(states) if not n.startswith("storage:")] == ["d1", "d2", "d3"]
    assert len(states) == 4


def test_a_range_that_goes() -> None:
    states = rendering.volume_states({"volumes": {"d{1..2}": {"state": "absent"}}})
    assert list(states) == [f"storage-volumes-absent-d{n}" for n in (1, 2)]


@pytest.mark.parametrize("state", list(rendering.PARAMETERS))
def test_g9_a_passphrase_in_a_volumes_entry_goes_nowhere(state: str) -> None:
    """Row G9: it says where the passphrase is; a passphrase itself must not reach a state, which
    many can read.
    """
    for name, secret in (("data", "geheim-4711"), ("data{1..2}", "geheim-4711"), ("data{1..2}", "{3..4}geheim-4711")):
        entry = {"size": 1, "mount": "/srv/data{1..2}", "state": state, "encrypted": True, "passphrase": secret}
        found = rendering.volume_states({"volumes": {name: entry}})
        assert "4711" not in repr(found)
        function, parameters = only(found)
        assert function == "storage_pillar.invalid"
        assert parameters["comment"].startswith("INVALID_ARGUMENT: passphrase")


def test_where_the_passphrase_is_reaches_the_state() -> None:
    entry = {"size": 1, "encrypted": True, "passphrase": "sdb://vault/data"}
    assert volume(entry) == ("storage_volume.connected", {"name": "data", **entry})
