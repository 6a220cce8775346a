"""Folders of Python modules that the controller may import and that the storage environment lacks:
a distribution's bindings, such as Ceph's, and providers of one's own.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from typing import Any

from ...errors import FailedPreconditionError, InvalidArgumentError
from . import trust

_FIELD = "storage:python_path"


def folders(value: Any) -> tuple[str, ...]:
    """Return the checked value of ``storage:python_path``: a list of absolute paths, None for none.

    :raises InvalidArgumentError: it is something else.

    >>> folders(["/srv/salt-storage/modules/"])
    ('/srv/salt-storage/modules',)
    """
    given = [] if value is None else value
    if not isinstance(given, list) or not all(isinstance(path, str) and path.startswith("/") and "\0" not in path for path in given):
        raise InvalidArgumentError(f"{_FIELD} must be a list of absolute paths of folders", field=_FIELD)
    return tuple(os.path.normpath(path) for path in given)


def use(paths: Iterable[str]) -> None:
    """Let this process import modules from folders, after all others: they replace none.

    :param paths: from :func:`folders`.
    :raises FailedPreconditionError: a folder is missing, or others may write to it: its code would
        run with the controller's rights.
    """
    for path in paths:
        try:
            if part := trust.changeable(path):
                raise FailedPreconditionError(
                    f"{_FIELD}: {part} can be changed by others than root and the controller's user; change its owner or mode",
                    field=_FIELD,
                )
            if not os.path.isdir(path):
                raise FailedPreconditionError(f"{_FIELD}: {path} is no folder", field=_FIELD)
        except OSError as error:
            raise FailedPreconditionError(f"{_FIELD}: {path}: {error.strerror}", field=_FIELD) from None
        if path not in sys.path:
            sys.path.append(path)
