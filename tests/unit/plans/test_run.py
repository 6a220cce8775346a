"""The states whose requests may travel with the present one, and how other states stand."""

import pytest

from saltstorage.plans.run import DONE, FAILED, FORETOLD, OPEN, Run


def present(name, size=None, backend=None, **kwargs):
    """Have the parameters of a state."""


def chunk(name, fun="present", state="storage_volume", **more):
    return {"state": state, "fun": fun, "name": name, "__id__": f"id-{name}", "__sls__": "x", "__env__": "base", "order": 10000, **more}


def names(chunks, low=0, running=(), failhard=False):
    found = Run(low=chunks[low], chunks=chunks, running=dict.fromkeys(running), failhard=failhard).following(present)
    return [parameters["name"] for parameters in found]


def test_the_next_states_until_another_state():
    chunks = [chunk("a"), chunk("b", size=1), chunk("c", size=2), chunk("f", state="file", fun="managed"), chunk("d")]
    assert names(chunks) == ["b", "c"]
    assert names(chunks, low=1) == ["c"]
    assert names(chunks, low=2) == []
    assert next(iter(Run(low=chunks[0], chunks=chunks).following(present))) == {"name": "b", "size": 1}


def test_another_function_ends_it():
    assert names([chunk("a"), chunk("b", fun="absent"), chunk("c")]) == []


@pytest.mark.parametrize(
    "more",
    [
        {"require": [{"id": "a"}]},
        {"onfail": [{"id": "a"}]},
        {"unless": "true"},
        {"retry": True},
        {"parallel": True},
        {"failhard": True},
        {"unknown": 1},
        {"__prereq__": True},
        {"backend": "__slot__:salt:x.y()"},
    ],
)
def test_a_state_that_may_not_run_ends_it(more):
    assert names([chunk("a"), chunk("b", **more), chunk("c")]) == []


def test_its_own_conditions_were_met():
    assert names([chunk("a", require=[{"id": "x"}], unless="false"), chunk("b")]) == ["b"]


@pytest.mark.parametrize("more", [{"parallel": True}, {"retry": True}, {"__prereq__": True}])
def test_a_state_that_runs_apart_asks_for_itself(more):
    assert names([chunk("a", **more), chunk("b")]) == []


def test_with_failhard_nothing_is_sure_to_run():
    assert names([chunk("a"), chunk("b")], failhard=True) == []


def test_a_state_that_ran_is_not_asked_for_again():
    chunks = [chunk("a"), chunk("b"), chunk("c")]
    assert names(chunks, running=["storage_volume_|-id-b_|-b_|-present"]) == []


def test_frozen_values_are_copied():
    from salt.utils import immutabletypes

    chunks = immutabletypes.freeze([chunk("a"), chunk("b", size={"x": [1]})])
    (found,) = Run(low=chunks[0], chunks=chunks).following(present)
    assert found == {"name": "b", "size": {"x": [1]}}
    assert type(found["size"]) is dict
    assert type(found["size"]["x"]) is list


def test_nothing_is_sent_ahead_in_a_dry_run_or_outside_of_a_run():
    chunks = [chunk("a"), chunk("b")]
    assert list(Run(test=True, low=chunks[0], chunks=chunks).following(present)) == []
    assert list(Run().following(present)) == []


@pytest.mark.parametrize(
    ("result", "test", "outcome"),
    [(True, False, DONE), (False, False, FAILED), (None, True, FORETOLD), (None, False, OPEN), ("missing", False, OPEN)],
)
def test_how_another_state_stands(result, test, outcome):
    """A state in a process of its own that has not ended has the result None."""
    chunks = [chunk("a"), chunk("b")]
    running = {} if result == "missing" else {"storage_volume_|-id-a_|-a_|-present": {"result": result}}
    run = Run(test=test, low=chunks[1], chunks=chunks, running=running)
    [other] = run.others("storage_volume", "present", "mounted")
    assert (other["name"], run.outcome(other)) == ("a", outcome)
