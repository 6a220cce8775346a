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


@pytest.mark.parametrize("name", ["d{1,2}", "d{a..c}", "d{1..}", "d{-1..3}", "{}", "d{١..٣}"])
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


# Faults that a newcomer makes, and that once were silent


def comments(storage: Any, pillar: dict[str, Any] | None = None) -> dict[str, str]:
    """Return the comment of each state of the formula's own, by the state's id."""
    states = rendering.volume_states(storage, pillar)
    bodies = {key: body.get("storage_pillar.invalid") or body.get("storage_pillar.note") for key, body in states.items()}
    return {key: body[1]["comment"] for key, body in bodies.items() if body}


@pytest.mark.parametrize("other", ["/srv/data", "/srv/data/", "/srv/x/../data", "//srv//data"])
def test_g2_two_volumes_on_one_mount_point_are_both_refused(other: str) -> None:
    volumes = {"a": {"mount": "/srv/data", "snapshots": {}}, "b": {"mount": other}, "c": {"mount": "/srv/data/in"}}
    states = rendering.volume_states({"volumes": volumes})
    assert list(states) == ["storage-volumes-invalid-a", "storage-volumes-invalid-b", "storage-volumes-mounted-c"]
    found = comments({"volumes": volumes})
    assert "mount '/srv/data' is that of 'b' too" in found["storage-volumes-invalid-a"]
    assert "mount '/srv/data' is that of 'a' too" in found["storage-volumes-invalid-b"]


def test_a_range_and_an_entry_on_one_mount_point_are_refused_alone() -> None:
    found = comments({"volumes": {"d{1..3}": {"mount": "/srv/{1..3}"}, "e": {"mount": "/srv/2"}}})
    assert list(found) == ["storage-volumes-invalid-d2", "storage-volumes-invalid-e"]


@pytest.mark.parametrize("state", ["unmounted", "disconnected", "absent", "connected"])
def test_a_mount_point_that_another_volume_leaves_can_be_taken(state: str) -> None:
    assert comments({"volumes": {"a": {"mount": "/srv", "state": state}, "b": {"mount": "/srv"}}}) == {}


@pytest.mark.parametrize(
    ("pillar", "word"),
    [
        ({"storage": {"volume": {"data": {"size": 1}}}}, "did you mean 'volumes'?"),
        ({"storage": {"volume": {}, "consumr": {}}}, "'consumr'; did you mean 'consumer'?"),
        ({"storage": None, "volumes": {"data": {"size": 1}}}, "indent 'volumes' below 'storage'"),
        ({"storage": {}, "volumes": {"data": {"size": 1}}}, "indent 'volumes' below 'storage'"),
    ],
)
def test_g2_a_key_in_the_wrong_place_is_a_failing_state(pillar: dict[str, Any], word: str) -> None:
    function, parameters = only(rendering.volume_states(pillar["storage"], pillar))
    assert function == "storage_pillar.invalid"
    assert word in parameters["comment"]


def test_a_misspelled_key_beside_volumes_holds_up_no_volume() -> None:
    states = rendering.volume_states({"volumes": {"data": {"size": 1}}, "passphrase": {}})
    assert list(states) == ["storage-invalid", "storage-volumes-connected-data"]


@pytest.mark.parametrize(
    ("pillar", "word"), [({}, "top.sls"), ({"storage": None}, "is empty"), ({"volumes": {"a": {"size": 1}}}, "top.sls")]
)
def test_a_minion_without_pillar_is_told_so(pillar: dict[str, Any], word: str) -> None:
    function, parameters = only(rendering.volume_states(pillar.get("storage"), pillar))
    assert function == "storage_pillar.note"
    assert word in parameters["comment"]


@pytest.mark.parametrize("storage", [{}, {"volumes": {}}, {"volumes": None}, {"consumer": {"protocols": ["iscsi"]}}, {"controller": {}}])
def test_a_host_that_is_meant_to_have_no_volume_has_no_state(storage: dict[str, Any]) -> None:
    assert rendering.volume_states(storage, {"storage": storage, "volumes": "of others"}) == {}


def test_all_faults_of_an_entry_are_told_at_once() -> None:
    comment = volume({"size": "ten", "mount": ["/srv"], "fstpye": "xfs", "mnt_option": 1, "snapshots": {"kep": 1}})[1]["comment"]
    for word in ("'fstpye'; did you mean 'fstype'?", "'mnt_option'", "size 'ten' is not a size", "'kep'; did you mean 'keep'?"):
        assert word in comment


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"size": 1, "mount": ["/srv"]}, "mount must be an absolute path, not a list"),
        ({"size": ["1"]}, "not a list"),
        ({"size": 1, "state": ["mounted"]}, "not a list"),
        (["size"], "must be a mapping, not a list"),
        ({"size": 1, "present": True}, "write 'state: present'"),
    ],
)
def test_errors_say_what_was_written(entry: Any, words: str) -> None:
    assert words in volume(entry)[1]["comment"]


def test_a_list_of_volumes_is_called_a_list() -> None:
    """Salt 3008 has classes of its own for pillar's lists."""

    class MaskedList(list[Any]):
        pass

    assert "not a list" in only(rendering.volume_states({"volumes": MaskedList(["data"])}))[1]["comment"]


@pytest.mark.parametrize("size", ["500MiB", "500M", "1 kB", "1536MiB"])
def test_a_size_that_is_rounded_is_told(size: str) -> None:
    gib = 2 if size == "1536MiB" else 1
    states = rendering.volume_states({"volumes": {"data": {"size": size}}})
    assert list(states) == ["storage-volumes-rounded-data", "storage-volumes-connected-data"]
    assert f"write {gib}GiB" in comments({"volumes": {"data": {"size": size}}})["storage-volumes-rounded-data"]


@pytest.mark.parametrize("entry", [{"size": "1024MiB"}, {"size": "1TB"}, {"size": "5"}, {"size": "500MiB", "state": "absent"}])
def test_a_size_that_stays_as_written_is_not_told(entry: dict[str, Any]) -> None:
    assert comments({"volumes": {"data": entry}}) == {}


@pytest.mark.parametrize(("name", "right"), [("d{1-3}", "{1..3}"), ("d{01...12}", "{01..12}"), ("{1:2}", "{1..2}"), ("d{1…3}", "{1..3}")])
def test_a_range_in_another_form_is_refused(name: str, right: str) -> None:
    assert f"write {right}" in volume({"size": 1}, name)[1]["comment"]
    # A volume that was made in the past can be removed.
    assert volume({"state": "absent"}, name)[0] == "storage_volume.absent"


def controller_faults(**options: Any) -> str:
    return rendering.controller_problem({"controller": {"backends": {"fast": {}, "slow": {}}, "types": {"gold": {}}, **options}})


def test_a_policy_that_names_no_backend_of_the_controller_is_refused() -> None:
    assert "storage:policy:db*:backends: 'nix' is not one of the backends: fast, slow" in controller_faults(
        policy={"db*": {"backends": ["nix"]}}
    )
    assert "'silver' is not one of the types: gold" in controller_faults(policy={"*": {"types": ["silver"]}})
    assert controller_faults(policy={"db*": {"backends": ["fa*", "later-*", "slow"], "types": ["*"]}}) == ""


def test_all_faults_of_the_controller_are_told_at_once() -> None:
    problem = controller_faults(
        policy={"db*": {"backends": ["nix"]}, "web*": {"backends": ["nox"]}}, workers=0, backend={}, default_backend="x"
    )
    for word in ("'nix'", "'nox'", "storage:workers", "did you mean 'backends'?", "storage:default_backend 'x'"):
        assert problem.count(word) == 1, problem
    assert problem.startswith("INVALID_ARGUMENT: ")
    assert "INVALID" not in problem[4:]


def test_a_part_of_pillar_that_is_missing_may_be_misspelled() -> None:
    assert "did you mean 'controller'?" in rendering.controller_problem({"controler": {}})
    assert "did you mean 'consumer'?" in rendering.consumer_problem({"consumr": {}})
    assert rendering.consumer_problem({"volumes": {}, "controller": {}, "lookup": {}, "passphrases": {}}) == ""
    assert rendering.consumer_problem({"volume": {}, "own": {}}) == "", "told by the states of the volumes"
