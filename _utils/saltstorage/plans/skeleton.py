"""The one form of every state: check, plan, and then either foretell the changes or make them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .. import validate
from ..errors import StorageError
from ..faults import as_storage_error
from ..flow.batch import Ask
from .run import parameters as names_of

Changes = dict[str, Any]


@dataclass
class Plan:
    """The plan of a state, made by reading alone.

    :ivar comment: a sentence on the present, when there is nothing to do, or on the planned
        changes.
    :ivar changes: the planned changes; empty when there is nothing to do.
    :ivar apply: carries out the plan, and returns the changes that were made and a comment in the
        past tense.
    :ivar ask: makes everything ready for the first request of ``apply``, and returns it. So an
        earlier state can send it with its own. None when there is no such request, or it must wait
        for this state's turn.
    """

    comment: str
    changes: Changes = field(default_factory=dict)
    apply: Callable[[], tuple[Changes, str]] | None = None
    ask: Callable[[], Ask] | None = None


def run(name: str, test: bool, plan: Callable[[], Plan], unknown: Mapping[str, Any], parameters: Callable[..., Any]) -> dict[str, Any]:
    """Return a state's result.

    :param name: the state's name.
    :param test: whether this is a dry run: only ``plan`` is called, which may only read.
    :param plan: checks the parameters and returns the plan.
    :param unknown: parameters that the state does not know; they are refused before ``plan`` is
        called.
    :param parameters: the state function, whose signature has the known ones.
    :returns: ``name``, ``result`` (True, None in a dry run that would change something, False on
        an error), ``changes``, ``comment``.
    """
    ret: dict[str, Any] = {"name": name, "result": True, "changes": {}, "comment": ""}
    try:
        refuse_unknown(unknown, parameters)
        found = plan()
        if found.apply is None:
            ret["comment"] = found.comment
        elif test:
            ret.update(result=None, changes=found.changes, comment=found.comment)
        else:
            ret["changes"], ret["comment"] = found.apply()
    except StorageError as error:
        ret.update(result=False, changes={}, comment=str(error))
    # a traceback in a state's comment helps nobody, and may hold secrets
    except Exception as error:
        ret.update(result=False, changes={}, comment=str(as_storage_error(error, f"the state of {name!r}")))
    return ret


def refuse_unknown(given: Mapping[str, Any], function: Callable[..., Any]) -> None:
    """Raise InvalidArgumentError for a parameter that ``function`` has not.

    Salt's own ones (``__env__``, ``order``) pass.
    """
    known = names_of(function)
    validate.no_unknown((key for key in given if not key.startswith("__") and key != "order"), known, f"the state {function.__name__!r}")


def change(old: Any, new: Any) -> dict[str, Any]:
    """Return one entry of ``changes``."""
    return {"old": old, "new": new}
