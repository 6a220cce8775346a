"""Turns any exception into an error that may be shown, with the rest in the log and no secret in
either.
"""

from __future__ import annotations

import logging
import socket
import traceback
import uuid

from .errors import InternalError, StorageError

log = logging.getLogger(__name__)


def as_storage_error(exc: BaseException, what: str) -> StorageError:
    """Return ``exc`` if it is a :class:`StorageError`, else log it and return an
    :class:`InternalError` that names the log entry and this machine, which may be the master or a
    minion.

    The log gets the types and the places in the code, not the text of the exceptions nor any
    value: drivers put credentials into both.

    :param exc: the exception.
    :param what: the failed thing in words, such as ``operation create``.
    """
    if isinstance(exc, StorageError):
        return exc
    reference = uuid.uuid4().hex[:12]
    log.error("storage: %s failed, reference %s:\n%s", what, reference, describe(exc))
    return InternalError(f"{what} failed with {type(exc).__name__}; the log on {socket.gethostname()} has more under reference {reference}")


def describe(exc: BaseException) -> str:
    """Return the chain of exceptions with their places in the code, and no text or value of
    theirs.
    """
    parts = []
    seen: set[int] = set()
    current: BaseException | None = exc
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        frames = "".join(f"  {f.filename}:{f.lineno} in {f.name}\n" for f in traceback.extract_tb(current.__traceback__))
        # The operating system's own words hold no secret and usually say all.
        words = f": {current.strerror}" if isinstance(current, OSError) and current.strerror else ""
        parts.append(f"{frames}{type(current).__module__}.{type(current).__qualname__}{words}")
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)
    return "\ncaused by:\n".join(parts)
