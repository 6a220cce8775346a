"""The children that run os-brick for this process.

A call takes a child that is idle, and a new one is started only when there is none: one for a job
with one thread, and one for each of the threads that attach at the same time.
"""

from __future__ import annotations

import atexit
import logging
import multiprocessing.util
import os
import re
import threading
import weakref
from collections.abc import Mapping
from typing import Any

from ...environment.location import CONSUMER, interpreter
from ...errors import LostError, UnavailableError
from ...ipc.child import Child
from ..host.config import ConsumerConfig
from .connection_info import secrets_of

log = logging.getLogger(__name__)

#: How long os-brick may take for one step beyond ``step_timeout``, seconds: it logs in to one
#: portal after another, and waits two minutes for a dead one.
PATIENCE = 600.0
#: A line of the child's log, as :mod:`saltstorage.consumer.connectors.__main__` writes it.
_LINE = re.compile(r"(\d+):([\w.]+):(.*)")
_NAME = "os-brick's process"

_lock = threading.Lock()
#: The idle children of this process, by their command.
_idle: dict[tuple[str, ...], list[_Brick]] = {}
#: All children of this process, also those at work.
_all: weakref.WeakSet[_Brick] = weakref.WeakSet()


class _Brick(Child):
    """A child, whose log is a part of this process's log, without secrets."""

    def __init__(self, command: list[str], environ: dict[str, str]) -> None:
        self.secrets: set[str] = set()
        super().__init__(command, environ, tell=self._log, name=_NAME)
        _all.add(self)

    def _log(self, line: str) -> None:
        # Longest first: one secret may be a part of another.
        for secret in sorted(self.secrets, key=len, reverse=True):
            line = line.replace(secret, "***")
        found = _LINE.match(line)
        if found is None:
            log.warning("storage: os-brick: %s", line)
        else:
            logging.getLogger(found[2]).log(int(found[1]), "%s", found[3])


def ask(config: ConsumerConfig, step: str, op: str, args: Mapping[str, Any]) -> Any:
    """Have a child carry out ``op`` with os-brick, and return its answer.

    :param config: settings of the host.
    :param step: the work, for errors: ``"attach"``.
    :param op: a method of the child.
    :param args: its arguments; they may hold secrets, and reach nobody but the child.
    :raises FailedPreconditionError: there is no storage environment on this host.
    :raises UnavailableError: the child ended, or did not answer; a later call starts another.
    :raises StorageError: the child raised it.
    """
    runs = interpreter({"storage": {"consumer": {"environment": config.environment}}}, role=CONSUMER)
    command = runs.command("consumer.connectors")
    key = tuple(command)
    try:
        child = _take(key) or _Brick(command, runs.environ())
    except LostError as error:
        raise UnavailableError(
            f"cannot {step}: {error}; the log of this job says more. Apply the state storage.consumer, which repairs {config.environment}"
        ) from None
    child.secrets |= secrets_of(args)
    level = logging.getLogger("os_brick").getEffectiveLevel()
    timeout = config.step_timeout + PATIENCE
    try:
        answer = child.connection.call(op, {"config": config.to_wire(), "level": level, **args}, timeout=timeout)
    except LostError:
        raise UnavailableError(
            f"cannot {step}: {_NAME} ended, or did not answer within {timeout:g} s; whether it did its work is not known."
            " The log of this job says more. Repeat the call: it looks what was done, and goes on"
        ) from None
    finally:
        if child.connection.broken:
            child.stop(0.0)
        else:
            _give_back(key, child)
    return answer


def _take(key: tuple[str, ...]) -> _Brick | None:
    with _lock:
        while children := _idle.get(key):
            child = children.pop()
            if not child.connection.left():
                return child
            child.stop(0.0)
    return None


def _give_back(key: tuple[str, ...], child: _Brick) -> None:
    with _lock:
        if not _idle:
            # Also run at the end of a forked job, where atexit is not.
            multiprocessing.util.Finalize(None, stop, exitpriority=1)
        _idle.setdefault(key, []).append(child)


def stop() -> None:
    """End the idle children of this process; a later call starts others."""
    with _lock:
        children = [child for several in _idle.values() for child in several]
        _idle.clear()
    for child in children:
        child.stop()


def _forget() -> None:
    """Leave the children to the process that this one was forked from."""
    global _lock
    _lock = threading.Lock()
    # An open copy of the connection would keep a child alive after the process that it serves.
    for child in list(_all):
        child.connection.abandon()
    _all.clear()
    _idle.clear()


atexit.register(stop)
os.register_at_fork(after_in_child=_forget)
