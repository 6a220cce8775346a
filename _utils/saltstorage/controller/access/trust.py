"""Rights of others to change a file that the controller trusts."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable


def changeable(path: str) -> str:
    """Return the part of a path that others than root and this process's user can change; empty:
    none.

    Each folder above the path counts too: a user who may rename that, chooses the contents.

    :raises OSError: it is not there, or cannot be looked at.
    """
    for part in (path, *_above(os.path.realpath(path))):
        found = os.stat(part)
        shared = found.st_mode & 0o022 and not (found.st_mode & stat.S_ISVTX and part != path)
        if shared or found.st_uid not in (0, os.geteuid()):
            return part
    return ""


def _above(path: str) -> Iterable[str]:
    while path != "/":
        yield path
        path = os.path.dirname(path)
