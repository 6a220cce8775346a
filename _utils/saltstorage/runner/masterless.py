"""The runner's functions on a minion without a master, where there is no ``salt-run``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import FailedPreconditionError, InvalidArgumentError
from ..flow.session import is_masterless
from . import calls

_PREFIX = "storage."


def call(opts: Mapping[str, Any], function: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Call a function of the runner ``storage`` in this process, with this minion's options as the
    controller's, and return its answer.

    :param function: its name, without ``storage.``.
    :raises FailedPreconditionError: this minion has a master, whose controller it is not; or the
        runner is not in its ``file_roots``.
    :raises InvalidArgumentError: there is no such function, or its arguments are wrong.
    :raises StorageError: as the function says.
    """
    name = str(function)
    if not is_masterless(opts):
        raise FailedPreconditionError(f"the controller of {opts['id']} is its master; on that, use salt-run {_PREFIX}{name}")
    runner = _runner(opts)
    if name not in runner:
        raise InvalidArgumentError(f"there is no operation {name!r}; known: {', '.join(sorted(runner))}", field="function")
    # An earlier call of Salt's RunnerClient in this process would otherwise still be the caller.
    calls.__tag__ = ""
    return runner[name](*args, **kwargs)


def _runner(opts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the functions of the runner by name, as they are in ``file_roots`` now: nothing else
    brings a minion runners.
    """
    import salt.loader
    import salt.utils.extmods

    salt.utils.extmods.sync(opts, "runners", saltenv=opts.get("saltenv"))
    loaded = salt.loader.runner(opts)
    found = {key.removeprefix(_PREFIX): loaded[key] for key in loaded if key.startswith(_PREFIX)}
    if not found:
        raise FailedPreconditionError("the formula's folder _runners is not in the file_roots of this minion; put it there")
    return found
