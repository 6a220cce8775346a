"""Finds the Python of the distribution that the storage environment is made from."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass

from ..errors import FailedPreconditionError

OLDEST, NEWEST = (3, 11), (3, 14)
_FOLDERS = ("/usr/bin", "/usr/local/bin")
#: Salt's own: an upgrade of Salt replaces it.
_SALTS = "/opt/saltstack/"
_ASK = (
    "import json, os, sys\n"
    "try:\n    import ensurepip, venv\n    able = True\nexcept ImportError:\n    able = False\n"
    "print(json.dumps([list(sys.version_info[:3]), os.path.realpath(sys.executable), sys.prefix == sys.base_prefix, able]))"
)


@dataclass(frozen=True, kw_only=True)
class Python:
    """A Python that an environment can be made from."""

    path: str
    version: str  #: Such as ``3.11.2``.


def find(configured: str | None = None) -> Python:
    """Return the Python to make the storage environment from.

    It is the configured one; else ``python3`` of the distribution, if that is 3.11 to 3.14; else
    the newest of these beside it.

    :param configured: path of a Python; None to look.
    :raises FailedPreconditionError: there is none, or it cannot make environments; the message
        says what to install.
    """
    if configured:
        found = _look(configured)
        if found is None:
            raise FailedPreconditionError(f"{configured} is no Python that runs; correct storage:lookup:environment:python")
        if found[1]:
            raise FailedPreconditionError(f"{found[1]}; correct storage:lookup:environment:python, or install what is missing")
        return found[0]
    reasons = []
    names = ["python3", *(f"python3.{minor}" for minor in range(NEWEST[1], OLDEST[1] - 1, -1))]
    for path in (os.path.join(folder, name) for name in names for folder in _FOLDERS):
        found = _look(path)
        if found is not None and not found[1]:
            return found[0]
        if found is not None:
            reasons.append(found[1])
    seen = f" ({'; '.join(dict.fromkeys(reasons))})" if reasons else ""
    raise FailedPreconditionError(
        f"no Python 3.11 to 3.14 for an environment is in /usr/bin or /usr/local/bin{seen}; install one (Debian and Ubuntu:"
        " python3 and python3-venv), or name one in pillar storage:lookup:environment:python"
    )


def _look(path: str) -> tuple[Python, str] | None:
    """Return a Python, and its fault in words; None when there is none."""
    if not os.access(path, os.X_OK):
        return None
    try:
        answer = subprocess.run([path, "-I", "-c", _ASK], capture_output=True, text=True, timeout=60, check=False, env={}, cwd="/")
        version, real, base, able = json.loads(answer.stdout)
    except (OSError, ValueError, TypeError, subprocess.TimeoutExpired):
        return None
    text = ".".join(map(str, version))
    wrong = ""
    if not OLDEST <= tuple(version[:2]) <= NEWEST:
        wrong = f"{path} is Python {text}, and 3.11 to 3.14 are possible"
    elif real.startswith(_SALTS) or path.startswith(_SALTS):
        wrong = f"{path} is Salt's own Python, which an upgrade of Salt replaces"
    elif not base:
        wrong = f"{path} is of a virtual environment"
    elif not able:
        wrong = f"{path} lacks the modules venv or ensurepip (Debian and Ubuntu: package python3-venv)"
    return Python(path=path, version=text), wrong
