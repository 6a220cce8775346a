"""Keeps Cinder's logging from disturbing Salt's, and secrets out of both."""

from __future__ import annotations

import logging
import os
import shlex
import sys
import traceback
from collections.abc import Iterable
from typing import Any

from .masking import Secrets

#: Loggers of the libraries below the providers, by their first name.
LIBRARIES = (
    "alembic",
    "castellan",
    "cinder",
    "cinderlib",
    "eventlet",
    "os_brick",
    "oslo",
    "oslo_concurrency",
    "oslo_config",
    "oslo_db",
    "oslo_messaging",
    "oslo_policy",
    "oslo_privsep",
    "oslo_service",
    "oslo_utils",
    "oslo_versionedobjects",
    "oslo_vmware",
    "paramiko",
    "sqlalchemy",
    "stevedore",
    "taskflow",
    "tooz",
)
#: At DEBUG these write whole connection records, CHAP secrets included.
NEVER_DEBUG = ("cinderlib", "oslo_privsep")

_secrets = Secrets()
MASK = "***"


def add_secret(value: Any) -> None:
    """Mask a ``value`` of the configuration in every log record of a library and every message of
    ours, for good.

    Short values are not masked.
    """
    if isinstance(value, str):
        _secrets.add(value)


def keep_secrets(volume_id: str, values: Iterable[str]) -> None:
    """Mask these secrets of a volume likewise, until it has others.

    :param values: all its present secrets; none when its export and its credentials, or the volume
        itself, are gone.
    """
    _secrets.keep(volume_id, values)


def mask(text: str) -> str:
    """Return ``text`` without the known secrets and without anything that looks like a
    password.
    """
    from oslo_utils import strutils

    return str(strutils.mask_password(_secrets.mask(text, MASK), secret=MASK))


def describe(error: BaseException) -> str:
    """Return an exception's type and message without secrets, on one line, at most 600 characters.

    Of a failed command only the program's name is shown, and of a failed SQL statement nothing:
    their arguments hold CHAP secrets.
    """
    from oslo_concurrency import processutils
    from oslo_db import exception as db_exception

    if isinstance(error, processutils.ProcessExecutionError):
        return f"the command {_find_program(error.cmd)!r} failed with exit code {error.exit_code}"
    if isinstance(error, db_exception.DBError):
        return f"the metadata database failed ({type(error).__name__})"
    text = " ".join(mask(str(error)).split())
    return f"{type(error).__name__}: {text}"[:600] if text else type(error).__name__


def trace(error: BaseException) -> str:
    """Return the traceback of an exception and of its causes, each with :func:`describe`, oldest
    first.
    """
    parts: list[str] = []
    current: BaseException | None = error
    while current is not None and len(parts) < 8:
        parts.append("".join(traceback.format_tb(current.__traceback__, limit=-25)) + describe(current))
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)
    return "\n\nthen:\n\n".join(reversed(parts))


def _find_program(command: Any) -> str:
    """Return the name of the program in a command line, without its arguments and without wrappers
    such as sudo.
    """
    try:
        words = shlex.split(command) if isinstance(command, str) else [str(word) for word in command or ()]
    except ValueError:
        words = str(command).split()
    names = [os.path.basename(word) for word in words if "=" not in word and not word.startswith("-")]
    wrappers = {"sudo", "doas", "env", "cinder-rootwrap", "rootwrap.conf", "nice", "ionice"}
    return next((name for name in names if name not in wrappers), "?")


class MaskSecrets(logging.Filter):
    """Masks the message and the traceback of a record; it only sees records that will
    be written.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Change the record in place and let it pass."""
        try:
            if isinstance(record.args, tuple):
                record.args = tuple(describe(arg) if isinstance(arg, BaseException) else arg for arg in record.args)
            elif isinstance(record.args, dict):
                record.args = {key: describe(arg) if isinstance(arg, BaseException) else arg for key, arg in record.args.items()}
            record.msg, record.args = mask(record.getMessage()), ()
            if record.exc_info and record.exc_info[1] is not None:
                # Formatters take this text instead of making their own.
                record.exc_text = trace(record.exc_info[1])
        except Exception:
            # A record that cannot be read could hold anything.
            record.msg, record.args, record.exc_info = "(a log record that could not be formatted)", (), None
        return True


_filter = MaskSecrets()


def tame() -> None:
    """Set the libraries' loggers to WARNING where nobody set a level, and mask secrets in all of
    them.

    An operator who sets a level, for example with Salt's ``log_granular_levels: {cinder: debug}``,
    gets it.
    """
    for name in LIBRARIES:
        logger = logging.getLogger(name)
        if logger.level == logging.NOTSET:
            logger.setLevel(logging.WARNING)
    for name in NEVER_DEBUG:
        logger = logging.getLogger(name)
        if logger.level < logging.INFO:
            logger.setLevel(logging.INFO)
    # A filter of a logger does not see the records of its children, hence a filter on each.
    for name, known in list(logging.root.manager.loggerDict.items()):
        if isinstance(known, logging.Logger) and name.partition(".")[0] in LIBRARIES and _filter not in known.filters:
            known.addFilter(_filter)


class LoggingState:
    """The logging of the process at the moment when this was made."""

    def __init__(self) -> None:
        self._loggers = {logger: self._read(logger) for logger in self._loggers_of_the_process()}
        self._disable = logging.root.manager.disable
        # logging.captureWarnings replaces it
        self._warnings: Any = sys.modules["warnings"].showwarning
        self._captured: Any = getattr(logging, "_warnings_showwarning", None)

    @staticmethod
    def _loggers_of_the_process() -> list[logging.Logger]:
        return [logging.root, *(logger for logger in logging.root.manager.loggerDict.values() if isinstance(logger, logging.Logger))]

    @staticmethod
    def _read(logger: logging.Logger) -> tuple[Any, ...]:
        return logger.level, list(logger.handlers), list(logger.filters), logger.propagate, logger.disabled

    def restore(self) -> None:
        """Undo the changes in loggers that existed before."""
        for logger, before in self._loggers.items():
            if self._read(logger) != before:
                level, handlers, filters, propagate, disabled = before
                logger.setLevel(level)
                logger.handlers[:] = handlers
                logger.filters[:] = filters
                logger.propagate, logger.disabled = propagate, disabled
        logging.disable(self._disable)
        if self._captured is None and getattr(logging, "_warnings_showwarning", None) is not None:
            logging.captureWarnings(False)
