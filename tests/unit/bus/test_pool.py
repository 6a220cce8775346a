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


class Held:
    """Work that tells when it starts, and ends when it is let go."""

    def __init__(self, pool: FairPool) -> None:
        self.pool = pool
        self.gates: list[tuple[str, threading.Event]] = []
        self.changed = threading.Condition()

    def submit(self, key: str, count: int = 1) -> None:
        for _ in range(count):
            self.pool.submit(key, lambda: self._run(key))

    def wait(self, count: int) -> list[str]:
        """Wait until that many have started; return whose they are."""
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.gates) >= count, 5), f"{len(self.gates)} of {count} have started"
            return [key for key, _ in self.gates]

    def end(self, number: int) -> None:
        self.gates[number][1].set()

    def _run(self, key: str) -> None:
        gate = threading.Event()
        with self.changed:
            self.gates.append((key, gate))
            self.changed.notify_all()
        gate.wait(10)

    def close(self) -> None:
        self.pool.close(0)
        for _, gate in self.gates:
            gate.set()
        assert self.pool.close(5)


@pytest.mark.parametrize("workers", [3, 4, 8])
@pytest.mark.parametrize("first", [1, 20])
def test_two_keys_leave_a_thread_for_a_third(workers: int, first: int) -> None:
    held = Held(FairPool(workers, 100))
    held.submit("a", first)
    held.wait(min(first, workers - 2))
    held.submit("b", 20)
    held.submit("a", 20)
    held.submit("modest")
    with held.changed:
        assert held.changed.wait_for(lambda: any(key == "modest" for key, _ in held.gates), 5)
    held.close()


@pytest.mark.parametrize("workers", [1, 2, 3, 8])
def test_where_all_are_busy_the_next_to_be_free_goes_to_who_has_none(workers: int) -> None:
    held = Held(FairPool(workers, 100))
    for number in range(workers):
        held.submit(f"greedy{number}", 20)
    held.wait(workers)
    held.submit("modest")
    held.end(0)
    assert held.wait(workers + 1)[workers] == "modest"
    held.close()


def test_one_key_alone_uses_what_is_idle() -> None:
    held = Held(FairPool(8, 100))
    held.submit("a", 20)
    held.wait(6)
    held.close()


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
    # It returns at all: the work that it would wait for ends only below.
    assert not pool.close(0.2)
    gate.set()


def test_closing_can_let_waiting_work_finish() -> None:
    pool = FairPool(1, 10)
    gate, done = threading.Event(), []
    pool.submit("a", gate.wait)
    for number in range(3):
        pool.submit("a", lambda number=number: done.append(number))
    threading.Timer(0.1, gate.set).start()
    assert pool.close(5, drop=False)
    assert done == [0, 1, 2]
