"""Ids of minions that an administrator types."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping
from typing import Any

from .. import validate
from ..bus.keys import MinionKeys
from ..errors import NotFoundError


def refuse_unknown(opts: Mapping[str, Any], found: list[Any], **given: str | None) -> list[Any]:
    """Return the rows of a list, unless it is empty because a minion's id is mistyped.

    :param opts: the master's options.
    :param found: the rows.
    :param given: the ids, or globs of ids, that the rows were chosen by, by the name of the
        argument; None: it was not given.
    :raises NotFoundError: there are no rows, and no minion with an accepted key fits.
    """
    ids = {field: value for field, value in given.items() if isinstance(value, str) and value != validate.SHARED_OWNER}
    known = MinionKeys(opts).all_accepted() if ids and not found else None
    for field, value in ids.items():
        if known is not None and not fnmatch.filter(known, value):
            near = validate.nearest(value, known)
            hint = f"did you mean {near!r}?" if near else "salt-key --list=accepted shows those that there are"
            raise NotFoundError(f"no minion with an accepted key is called {value!r}, and nothing is recorded for it; {hint}", field=field)
    return found
