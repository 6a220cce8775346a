"""Requests of several states that travel together.

However little a request asks for, Salt's event bus takes 0.1 to 0.2 s and as much of the processor
for it, most of that for the job that brings the reply. Where twenty states of one kind come one
after another, the first of them asks for all, and the others find their answers. Each state still
does its part on this host in its own turn. Only detaching is done before, since it must come
before unmapping.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from .. import validate
from ..errors import StorageError, from_wire

_CONTEXT_KEY = "saltstorage.answers"


@dataclass(frozen=True)
class Ask:
    """A request to the controller. Everything that must come before it is done.

    :ivar op: operation.
    :ivar owner: owner of the volume.
    :ivar name: its name.
    :ivar args: the operation's arguments.
    :ivar finish: does the rest once the request was answered, and returns the answer that the
        state finds in its own turn.
    :ivar stamp: time of the record that was written before. An answer is void when another job has
        written a record since.
    """

    op: str
    owner: str
    name: str
    args: Mapping[str, Any]
    finish: Callable[[dict[str, Any]], Any] = lambda reply: reply
    stamp: float = 0.0


class PlanLike(Protocol):
    """The plan of a state; see :class:`saltstorage.plans.skeleton.Plan`."""

    @property
    def apply(self) -> Callable[[], Any] | None:
        """Carries out the plan; None when there is nothing to do."""

    @property
    def ask(self) -> Callable[[], Ask] | None:
        """Makes the first request ready and returns it.

        None when it must wait for the state's own turn.
        """


#: Names and plans of the states that come next and are sure to run; each plan is made when it is
#: called for.
Following = Callable[[], Iterable[tuple[str, Callable[[], PlanLike]]]]


class Together:
    """The requests of one state run.

    :param call: has the controller carry out an operation: ``call(op, args)``.
    :param context: ``__context__``; keeps the answers for the next states.
    :param run: identity of this state run; None outside of states, where every request travels
        alone.
    :param lock: holds the lock of a volume on this host.
    :param following: the states that come next.
    """

    def __init__(
        self,
        call: Callable[[str, Mapping[str, Any]], dict[str, Any]],
        context: MutableMapping[str, Any],
        run: str | None,
        lock: Callable[[str], AbstractContextManager[None]],
        following: Following | None,
    ) -> None:
        self._call = call
        self._context = context
        self._run = run
        self._lock = lock
        self._following = following if run is not None else None

    def answered(self, op: str, owner: str, name: str) -> bool:
        """Return whether the request of an earlier state has brought the answer to this one."""
        return (op, owner, name) in self._answers

    def answer(self, ask: Ask) -> Any:
        """Return the controller's answer. The requests of the next states travel with this one.

        :raises StorageError: as the operation says.
        """
        stamp, found = self._answers.pop((ask.op, ask.owner, ask.name), (None, None))
        if found is not None and stamp == ask.stamp:
            return _result(found)
        with contextlib.ExitStack() as locks:
            more = list(itertools.islice(self._more(ask, locks), validate.MAX_TOGETHER - 1))
            if not more:
                return self._call(ask.op, ask.args)
            requests = [{"op": each.op, "args": dict(each.args)} for each in (ask, *more)]
            own, *others = self._call("together", {"requests": requests})["replies"]
            for each, reply in zip(more, others, strict=True):
                self._keep(each, reply)
        if _may_succeed_later(own):
            return self._call(ask.op, ask.args)
        return _result(own)

    @property
    def _answers(self) -> dict[tuple[str, str, str], tuple[float, Mapping[str, Any]]]:
        return of_run(self._context, self._run, _CONTEXT_KEY, dict)  # type: ignore[no-any-return]

    def _keep(self, ask: Ask, reply: Mapping[str, Any]) -> None:
        if _may_succeed_later(reply):
            # Its own turn asks again.
            return
        if "error" not in reply:
            try:
                reply = {"data": ask.finish(reply["data"])}
            except StorageError as error:
                reply = {"error": error.to_wire()}
        self._answers[ask.op, ask.owner, ask.name] = ask.stamp, reply

    def _more(self, ask: Ask, locks: contextlib.ExitStack) -> Iterator[Ask]:
        """Yield the requests of the next states, up to a state that has none yet.

        ``locks`` gets their volumes' locks.
        """
        seen = {ask.name}
        for name, make_plan in self._following() if self._following is not None else ():
            try:
                if validate.name(name) in seen:
                    return
                seen.add(name)
                locks.enter_context(self._lock(name))
                plan = make_plan()
                if plan.apply is None:
                    continue
                if plan.ask is None:
                    return
                yield plan.ask()
            except (StorageError, OSError):
                # Its own turn says so.
                return


def of_run(context: MutableMapping[str, Any], run: str | None, key: str, make: Callable[[], Any]) -> Any:
    """Return the value that is kept under ``key`` for this state run, made if missing.

    Outside of a run, nothing is kept.
    """
    if run is None:
        return make()
    kept = context.get(key)
    if kept is None or kept[0] != run:
        kept = context[key] = (run, make())
    return kept[1]


def _result(reply: Mapping[str, Any]) -> Any:
    if "error" in reply:
        raise from_wire(reply["error"])
    return reply["data"]


def _may_succeed_later(reply: Mapping[str, Any]) -> bool:
    return "error" in reply and from_wire(reply["error"]).retryable
