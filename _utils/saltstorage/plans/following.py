"""Which states of a run come right after the present one and are sure to run, so that their requests can be sent with its own.

A request takes 0.1 to 0.2 s of Salt's event bus however little it asks for. Twenty volumes one after another would wait for
that twenty times.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .skeleton import known_parameters

#: Conditions of these kinds were met when the state itself is called; for one that is yet to come they are open.
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


def following(
    low: Mapping[str, Any], chunks: Sequence[Mapping[str, Any]], running: Mapping[str, Any], function: Any, failhard: bool
) -> Iterable[dict[str, Any]]:
    """Yield the parameters of the states after ``low`` that call the same function and that nothing can keep from running.

    It ends at the first state that is another one or that has anything but parameters: a requisite, a condition, a retry, …
    Nothing is yielded when a failure would end the run.

    :param low: the state that is called, ``__low__``.
    :param chunks: all states in the order in which they run, ``__lowstate__``.
    :param running: the results so far by tag, ``__running__``.
    :param function: the state's function.
    """
    names = known_parameters(function)
    plain = {"state", "fun", "order", "name", *names}
    if failhard or not chunks or not _plain(low, plain | _OWN_MAY_HAVE):
        return
    own = _tag(low)
    place = next((number for number, chunk in enumerate(chunks) if _tag(chunk) == own), len(chunks))
    for chunk in chunks[place + 1 :]:
        if (chunk["state"], chunk["fun"]) != (low["state"], low["fun"]) or not _plain(chunk, plain) or _tag(chunk) in running:
            return
        yield {name: _thawed(chunk[name]) for name in names if name in chunk}


def _plain(chunk: Mapping[str, Any], allowed: set[str]) -> bool:
    return (
        not chunk.get("__prereq__")
        and all(key.startswith("__") or key in allowed for key in chunk)
        # Salt calls a function for such a value, when the state is called.
        and not any("__slot__:" in str(value) for value in chunk.values())
    )


def _tag(chunk: Mapping[str, Any]) -> str:
    return "{state}_|-{__id__}_|-{name}_|-{fun}".format(**chunk)


def _thawed(value: Any) -> Any:
    """Return a copy of what Salt froze."""
    if isinstance(value, Mapping):
        return {key: _thawed(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [_thawed(item) for item in value]
    return value
