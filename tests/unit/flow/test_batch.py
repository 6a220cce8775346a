"""Requests of several states that travel together."""

import contextlib

import pytest

from saltstorage import errors
from saltstorage.flow.batch import Ask, Together
from saltstorage.validate import MAX_TOGETHER


class Plan:
    def __init__(self, ask=None, apply=print):
        self.ask, self.apply = ask, apply


class Run:
    """A state run on volumes by name; a reply is a result, or an error."""

    def __init__(self, replies=None, run="1"):
        self.replies, self.run = replies or {}, run
        self.calls, self.locked, self.context = [], [], {}

    def call(self, op, args):
        self.calls.append((op, args))
        if op != "together":
            return self.one(args["name"])
        return {"replies": [self.wire(request["args"]["name"]) for request in args["requests"]]}

    def one(self, name):
        reply = self.replies.get(name, {"name": name})
        if isinstance(reply, Exception):
            raise reply
        return reply

    def wire(self, name):
        try:
            return {"data": self.one(name)}
        except errors.StorageError as error:
            return {"error": error.to_wire()}

    @contextlib.contextmanager
    def lock(self, name):
        self.locked.append(name)
        try:
            yield
        finally:
            self.locked.remove(name)

    def ask(self, name, *plans, stamp=0.0):
        following = lambda: [(n, lambda p=p: p) for n, p in plans]  # noqa: E731
        return Together(self.call, self.context, self.run, self.lock, following).answer(make(name, stamp=stamp))

    @property
    def ops(self):
        return [op for op, _ in self.calls]


def make(name, **more):
    return Ask("create", "web1", name, {"name": name}, **more)


def plan(name, **more):
    return name, Plan(lambda: make(name, **more))


def test_one_request_for_all_and_each_finds_its_answer():
    run = Run()
    assert run.ask("a", plan("b"), plan("c")) == {"name": "a"}
    assert run.ask("b") == {"name": "b"}
    assert run.ask("c") == {"name": "c"}
    assert run.ops == ["together"]
    # An answer counts once.
    run.ask("b")
    assert run.ops == ["together", "create"]


def test_alone_it_is_a_request_like_any():
    run = Run()
    run.ask("a")
    assert run.calls == [("create", {"name": "a"})]


def test_outside_of_a_state_run_everything_travels_alone():
    run = Run(run=None)
    run.ask("a", plan("b"))
    assert run.ops == ["create"]
    assert run.context == {}


def test_another_run_does_not_find_the_answers():
    run = Run()
    run.ask("a", plan("b"))
    run.run = "2"
    run.ask("b")
    assert run.ops == ["together", "create"]


def test_an_error_is_of_its_own_state():
    run = Run({"a": errors.NotFoundError("no a"), "c": errors.OutOfRangeError("no c", field="size")})
    with pytest.raises(errors.NotFoundError, match="no a"):
        run.ask("a", plan("b"), plan("c"))
    assert run.ask("b") == {"name": "b"}
    with pytest.raises(errors.OutOfRangeError) as caught:
        run.ask("c")
    assert caught.value.field == "size"
    assert run.ops == ["together"]


def test_a_temporary_error_is_asked_for_again_in_its_own_turn():
    run = Run({"a": errors.AbortedError("busy"), "b": errors.AbortedError("busy")})
    for name, plans in (("a", [plan("b")]), ("b", [])):
        with pytest.raises(errors.AbortedError):
            run.ask(name, *plans)
    assert run.ops == ["together", "create", "create"]


def test_no_lock_stays_when_nobody_answers():
    run = Run()
    run.call = lambda op, args: (_ for _ in ()).throw(errors.UnavailableError("nobody"))
    with pytest.raises(errors.UnavailableError):
        run.ask("a", plan("b"))
    assert run.locked == []
    run.call = lambda op, args: {"op": op}
    assert run.ask("b") == {"op": "create"}


def test_a_state_without_work_is_passed_over_and_one_that_must_wait_ends_it():
    run = Run()
    run.ask("a", ("b", Plan(apply=None)), plan("c"), ("d", Plan()), plan("e"))
    assert [request["args"]["name"] for request in run.calls[0][1]["requests"]] == ["a", "c"]


def test_a_state_that_cannot_be_planned_ends_it_and_fails_in_its_own_turn():
    def wrong():
        raise errors.InvalidArgumentError("wrong")

    run = Run()
    run.ask("a", plan("b"), ("c", Plan(wrong)), plan("d"))
    assert [request["args"]["name"] for request in run.calls[0][1]["requests"]] == ["a", "b"]


def test_a_volume_is_asked_for_once():
    run = Run()
    run.ask("a", plan("a"), plan("b"))
    assert run.ops == ["create"]


def test_a_wrong_name_ends_it():
    run = Run()
    run.ask("a", plan("x/y"), plan("b"))
    assert run.ops == ["create"]


def test_an_answer_is_void_when_something_was_recorded_since():
    run = Run()
    run.ask("a", plan("b", stamp=1.0))
    run.ask("b", stamp=2.0)
    assert run.ops == ["together", "create"]


def test_locks_are_held_until_all_is_finished():
    run = Run()
    held = []

    def finish(reply):
        held.append(list(run.locked))
        return "finished"

    run.ask("a", plan("b", finish=finish), plan("c"))
    assert held == [["b", "c"]]
    assert run.locked == []
    assert run.ask("b") == "finished"


def test_no_more_than_a_reply_can_hold():
    run = Run()
    run.ask("first", *(plan(f"v{n}") for n in range(50)))
    assert len(run.calls[0][1]["requests"]) == MAX_TOGETHER
    assert run.locked == []
