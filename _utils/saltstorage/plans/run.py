"""The state run that a state is part of: the states that come next, and how those before it ended.

A request takes 0.1 to 0.2 s of Salt's event bus however little it asks for. Twenty volumes one
after another would wait for that twenty times, so requests of states that come right after one
another are sent together.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

#: Conditions of these kinds were met when the state itself is called; for a state that is yet to
#: come they are open.
_OWN_MAY_HAVE = {
    "require",
    "require_any",
    "watch",
    "watch_any",
    "onchanges",
    "onchanges_any",
    "onfail",
    "onfail_any",
    "onfail_all",
    "onfail_stop",
}
_OWN_MAY_HAVE |= {f"{word}_in" for word in ("require", "watch", "onchanges", "onfail", "listen", "prereq")} | {
    "listen",
    "unless",
    "onlyif",
    "creates",
}

#: How a state of the run stands.
OPEN, DONE, FAILED = "open", "done", "failed"
#: A dry run said what the state would do.
FORETOLD = "foretold"


@dataclass(frozen=True)
class Run:
    """A state run as Salt shows it to the state that is called.

    :ivar test: whether this is a dry run.
    :ivar low: the state that is called, ``__low__``.
    :ivar chunks: all states in the order in which they run, ``__lowstate__``; none outside of a
        run.
    :ivar running: the results so far by tag, ``__running__``.
    :ivar failhard: whether a failure ends the run.
    :ivar ahead: whether the state is planned before its own turn, to send its request with that of
        an earlier state.
    """

    test: bool = False
    low: Mapping[str, Any] = field(default_factory=dict)
    chunks: Sequence[Mapping[str, Any]] = ()
    running: Mapping[str, Any] = field(default_factory=dict)
    failhard: bool = False
    ahead: bool = False

    @classmethod
    def of(cls, dunders: Mapping[str, Any], *, ahead: bool = False) -> Run:
        """Return the run of a loader file.

        :param dunders: the variables that Salt set in the file, its ``globals()``.
        """
        opts = dunders["__opts__"]
        low = dunders.get("__low__") or {}
        return cls(
            test=bool(opts["test"]),
            low=low,
            chunks=dunders.get("__lowstate__") or (),
            running=dunders.get("__running__") or {},
            failhard=bool(low.get("failhard", opts.get("failhard"))),
            ahead=ahead,
        )

    def following(self, function: Callable[..., Any]) -> Iterable[dict[str, Any]]:
        """Yield the parameters of the next states that call the same function and are sure to run.

        It ends at the first state that calls another function or that has anything but parameters:
        a requisite, a condition, a retry, … Nothing is yielded in a dry run, or when a failure
        would end the run.

        :param function: the state's function.
        """
        names = parameters(function)
        plain = {"state", "fun", "order", "name", *names}
        if self.test or self.failhard or not self.low or not _is_plain(self.low, plain | _OWN_MAY_HAVE):
            return
        own = _tag(self.low)
        place = next((number for number, chunk in enumerate(self.chunks) if _tag(chunk) == own), len(self.chunks))
        for chunk in self.chunks[place + 1 :]:
            same = (chunk["state"], chunk["fun"]) == (self.low["state"], self.low["fun"])
            if not same or not _is_plain(chunk, plain) or _tag(chunk) in self.running:
                return
            yield {name: _thaw(chunk[name]) for name in names if name in chunk}

    def others(self, module: str, *functions: str) -> Iterator[Mapping[str, Any]]:
        """Yield the other states of the run that call some functions, as Salt keeps them."""
        own = _tag(self.low) if self.low and not self.ahead else None
        for chunk in self.chunks:
            if chunk["state"] == module and chunk["fun"] in functions and _tag(chunk) != own:
                yield chunk

    def outcome(self, chunk: Mapping[str, Any]) -> str:
        """Return how a state of the run stands: :data:`OPEN`, :data:`DONE`, …."""
        found = self.running.get(_tag(chunk))
        if found is None:
            return OPEN
        if found["result"] is None:
            # Outside of a dry run, that is a state that runs in a process of its own and has not
            # ended.
            return FORETOLD if self.test else OPEN
        return DONE if found["result"] else FAILED


def parameters(function: Callable[..., Any]) -> list[str]:
    """Return the names of a state function's parameters."""
    return [p.name for p in inspect.signature(function).parameters.values() if p.kind is not p.VAR_KEYWORD]


def _is_plain(chunk: Mapping[str, Any], allowed: set[str]) -> bool:
    return (
        not chunk.get("__prereq__")
        and all(key.startswith("__") or key in allowed for key in chunk)
        # Salt calls a function for such a value, when the state is called.
        and not any("__slot__:" in str(value) for value in chunk.values())
    )


def _tag(chunk: Mapping[str, Any]) -> str:
    return "{state}_|-{__id__}_|-{name}_|-{fun}".format(**chunk)


def _thaw(value: Any) -> Any:
    """Return a copy of a value that Salt froze."""
    if isinstance(value, Mapping):
        return {key: _thaw(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [_thaw(item) for item in value]
    return value
