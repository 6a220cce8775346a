"""Which Python runs the controller and os-brick: the storage environment's, if there is one."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import validate
from ..errors import FailedPreconditionError, InvalidArgumentError
from ..places import under_root

DEFAULT_FOLDER = "/opt/salt-storage"
CONTROLLER = "controller"
CONSUMER = "consumer"
#: One package of each role that nothing else brings.
_MARKS: Mapping[str, tuple[str, ...]] = {CONTROLLER: ("cinder", "sqlalchemy", "os_brick"), CONSUMER: ("os_brick",)}
#: The variables of this process that a program needs. Nothing else is passed on: it may hold
#: secrets, and Salt's packages set variables for their own Python.
_KEPT = ("PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR", "COVERAGE_PROCESS_START")


@dataclass(frozen=True, kw_only=True)
class Interpreter:
    """A Python that has the packages of a role.

    :ivar python: its path.
    :ivar package: folder to import the project's package from; empty: it is in the storage
        environment.
    """

    python: str
    package: str = ""

    def command(self, module: str) -> list[str]:
        """Return the command that runs a module of the project's package.

        >>> Interpreter(python="/opt/salt-storage/bin/python").command("controller")
        ['/opt/salt-storage/bin/python', '-I', '-m', 'saltstorage.controller']
        """
        # Isolated (-I): neither the working directory nor PYTHONPATH is searched, which others may
        # write. A package outside of the environment is found by PYTHONPATH only.
        return [self.python, *([] if self.package else ["-I"]), "-m", f"saltstorage.{module}"]

    def environ(self) -> dict[str, str]:
        """Return the environment for such a command."""
        kept = {key: os.environ[key] for key in _KEPT if key in os.environ}
        # Drivers call programs of their packages, such as cinder-rtstool.
        kept["PATH"] = os.pathsep.join([os.path.dirname(self.python), kept.get("PATH", os.defpath)])
        return {**kept, **({"PYTHONPATH": self.package, "PYTHONSAFEPATH": "1"} if self.package else {})}


def folder(opts: Mapping[str, Any], role: str) -> str:
    """Return the folder of the storage environment, whether it is there or not.

    :param opts: Salt's options. ``storage: environment:`` names another folder for the controller,
        ``storage: consumer: environment:`` for a consumer.
    :raises InvalidArgumentError: the option is no absolute path.
    """
    section = validate.mapping(opts.get("storage") or {}, "storage")
    where = "storage:environment"
    given = section.get("environment")
    if role == CONSUMER:
        of_consumer = validate.mapping(section.get("consumer") or {}, "storage:consumer").get("environment")
        if of_consumer is not None:
            given, where = of_consumer, "storage:consumer:environment"
    if given is None:
        return under_root(opts, DEFAULT_FOLDER)
    if not isinstance(given, str) or not given.startswith("/") or "\0" in given:
        raise InvalidArgumentError(f"{where} must be an absolute path, not {given!r}", field=where)
    return os.path.normpath(given)


def has_packages(role: str) -> bool:
    """Return whether this very Python has what a role needs."""
    return all(importlib.util.find_spec(name) is not None for name in _MARKS[role])


def interpreter(opts: Mapping[str, Any], *, role: str) -> Interpreter:
    """Return the Python that runs what a role needs packages for.

    That of the storage environment, if there is one. Otherwise this very Python, if somebody
    installed the packages there, as ``make demo`` and the tests do.

    :param opts: Salt's options.
    :param role: :data:`CONTROLLER` or :data:`CONSUMER`.
    :raises FailedPreconditionError: there is no such Python; the message says how to make one.
    :raises InvalidArgumentError: an option is wrong.
    """
    where = folder(opts, role)
    python = os.path.join(where, "bin", "python")
    if os.access(python, os.X_OK):
        return Interpreter(python=python)
    if has_packages(role):
        return Interpreter(python=sys.executable, package=str(Path(__file__).resolve().parents[2]))
    raise FailedPreconditionError(
        f"there is no storage environment in {where}; make it with state.apply storage.{role}, which includes storage.environment"
    )
