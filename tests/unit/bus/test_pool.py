"""The pool: fair, bounded, and it ends."""

from __future__ import annotations

import threading

import pytest

from saltstorage.bus.pool import FairPool, FullError


def test_one_key_cannot_starve_another() -> None:
    pool = FairPool(2, 10)
    gate, done = threading.Event(), threading.Event()
    for _ in range(5):
        pool.submit("greedy", gate.wait)
    pool.submit("modest", done.set)
    assert done.wait(5), "the modest key waited for the greedy one"
    gate.set()
    assert pool.close(5)


def test_keys_take_turns() -> None:
    pool = FairPool(1, 10)
    order: list[str] = []
    gate, started, done = threading.Event(), threading.Event(), threading.Event()

    def first() -> None:
        started.set()
        gate.wait()

    pool.submit("x", first)
    assert started.wait(5)
    for key in ("a", "a", "a", "b"):
        pool.submit(key, lambda key=key: order.append(key))  # type: ignore[misc]
    pool.submit("z", done.set)
    gate.set()
    assert done.wait(5)
    assert pool.close(5)
    assert order[:2] == ["a", "b"]


def test_bounded() -> None:
    pool = FairPool(1, 2)
    gate, started = threading.Event(), threading.Event()

    def hold() -> None:
        started.set()
        gate.wait()

    pool.submit("a", hold)
    assert started.wait(5)
    pool.submit("a", gate.wait)
    pool.submit("a", gate.wait)
    with pytest.raises(FullError):
        pool.submit("a", gate.wait)
    pool.submit("b", gate.wait)
    gate.set()
    assert pool.close(5)
    with pytest.raises(FullError):
        pool.submit("a", gate.wait)


def test_a_fault_does_not_cost_a_worker() -> None:
    freed = []
    pool = FairPool(1, 10, at_end=lambda: freed.append(1))
    done = threading.Event()
    pool.submit("a", lambda: 1 / 0)  # type: ignore[arg-type, return-value]
    pool.submit("a", done.set)
    assert done.wait(5)
    assert pool.close(5)
    assert freed == [1]


def test_closing_does_not_wait_for_ever() -> None:
    pool = FairPool(1, 10)
    gate, started = threading.Event(), threading.Event()

    def hold() -> None:
        started.set()
        gate.wait()

    pool.submit("a", hold)
    assert started.wait(5)
    # It returns at all: what it would wait for ends only below.
    assert not pool.close(0.2)
    gate.set()


def test_closing_can_let_what_waits_finish() -> None:
    pool = FairPool(1, 10)
    gate, done = threading.Event(), []
    pool.submit("a", gate.wait)
    for number in range(3):
        pool.submit("a", lambda number=number: done.append(number))
    threading.Timer(0.1, gate.set).start()
    assert pool.close(5, drop=False)
    assert done == [0, 1, 2]
