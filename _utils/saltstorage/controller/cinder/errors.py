"""The one place where exceptions of Cinder, oslo and the drivers' libraries become the project's
errors: by type, never by text.

A library's message may hold secrets (a failed command with its arguments, an SQL statement with
its values), so messages are masked, and of commands and statements only the name is kept.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import http.client
import logging
import os
import socket
import ssl
import urllib.error
from collections.abc import Iterator
from typing import Any

from ... import errors
from . import logs, packages
from .logs import describe

log = logging.getLogger(__name__)

#: Exceptions that tell of a fault in code rather than of a backend that does not answer.
_FAULTS = (AssertionError, AttributeError, LookupError, NameError, TypeError, ValueError)


@contextlib.contextmanager
def map_errors(doing: str, *, default: type[errors.StorageError] = errors.InternalError) -> Iterator[None]:
    """Raise every exception inside as a class of :mod:`saltstorage.errors`.

    :param doing: the attempt, for the message: ``"create volume 1c2f…"``.
    :param default: the class for an exception that says no more than that the backend failed.

    >>> with map_errors("create volume 1c2f"):
    ...     raise TypeError("no")
    Traceback (most recent call last):
    ...
    saltstorage.errors.InternalError: INTERNAL: could not create volume 1c2f: TypeError: no
    """
    try:
        yield
    except errors.StorageError:
        raise
    except Exception as error:
        new = translate(error, doing, default=default)
        log.log(logging.ERROR if new.code == "INTERNAL" else logging.DEBUG, "storage: %s\n%s", new, logs.trace(error))
        # Not chained: a printed chain shows the library's message, secrets included.
        raise new from None


def translate(error: BaseException, doing: str, *, default: type[errors.StorageError] = errors.InternalError) -> errors.StorageError:
    """Return the project's error for an exception of a library."""
    if isinstance(error, errors.StorageError):
        return error
    if isinstance(error, ImportError):
        package = (error.name or str(error)).partition(".")[0]
        return errors.FailedPreconditionError(f"could not {doing}: {packages.explain(error)}", details={"package": package})
    for kind, cls, hint in _build_table():
        if isinstance(error, kind):
            return (cls or default)(f"could not {doing}: {hint + ': ' if hint else ''}{describe(error)}")
    if isinstance(error, urllib.error.URLError) and isinstance(error.reason, OSError):
        # Its reason says more, such as a refused connection.
        return translate(error.reason, doing, default=default)
    if isinstance(error, OSError):
        return _map_os_error(error, doing)
    if isinstance(error, http.client.HTTPException):
        return errors.UnavailableError(f"could not {doing}: {describe(error)}")
    if isinstance(error, _FAULTS):
        default = errors.InternalError
    return default(f"could not {doing}: {describe(error)}")


def is_gone(error: BaseException) -> bool:
    """Return whether the exception says that the volume or snapshot is missing, now or always."""
    from cinder import exception

    return isinstance(error, exception.VolumeNotFound | exception.SnapshotNotFound | exception.VolumeSnapshotNotFound)


def _map_os_error(error: OSError, doing: str) -> errors.StorageError:
    # Those of libraries, such as urllib's, have a text and no number; names and TLS have other
    # numbers.
    numbered = isinstance(error.errno, int) and not isinstance(error, socket.gaierror | ssl.SSLError)
    text = os.strerror(error.errno) if numbered and error.errno else describe(error)
    what = f"could not {doing}: {text}"
    what += f": {error.filename}" if error.filename and numbered else ""
    if isinstance(error, ssl.SSLCertVerificationError):
        return errors.FailedPreconditionError(f"{what}; the backend's certificate is not trusted")
    if isinstance(error, socket.gaierror | urllib.error.URLError | ssl.SSLError):
        return errors.UnavailableError(what)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return errors.ResourceExhaustedError(what)
    if error.errno == errno.ENOENT:
        return errors.FailedPreconditionError(f"{what}; a program or directory is missing on the controller")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return errors.FailedPreconditionError(f"{what}; the controller lacks the right to do this")
    if isinstance(error, ConnectionError | TimeoutError) or error.errno in (errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ETIMEDOUT):
        return errors.UnavailableError(what)
    return errors.InternalError(what)


@functools.cache
def _build_table() -> list[tuple[Any, type[errors.StorageError] | None, str]]:
    """Return (types, class or None for the caller's default, hint); the first row that fits
    counts: subclasses before their bases.
    """
    import paramiko
    import requests
    from cinder import exception as cinder
    from oslo_concurrency import processutils
    from oslo_config import cfg
    from oslo_db import exception as db
    from tooz import coordination

    rows: list[tuple[Any, type[errors.StorageError] | None, str]] = [
        # A host without initiator counts as a host that is not there.
        (
            cinder.InvalidConnectorException,
            errors.NotFoundError,
            "the host does not meet the protocol's needs, such as an initiator name; name the protocol in the host's pillar"
            " storage:consumer:protocols, such as [iscsi], and apply storage.consumer there",
        ),
        ((cinder.RemoteFSNoSuitableShareFound, cinder.NoValidBackend), errors.ResourceExhaustedError, "no space"),
        ((cinder.QuotaError, cinder.OverQuota), errors.ResourceExhaustedError, ""),
        ((cinder.VolumeIsBusy, cinder.SnapshotIsBusy, cinder.VolumeAttached), errors.FailedPreconditionError, "it is in use"),
        ((cinder.InvalidVolume, cinder.InvalidSnapshot, cinder.SnapshotUnavailable), errors.FailedPreconditionError, ""),
        (cinder.DriverNotInitialized, errors.UnavailableError, "the driver is not ready"),
        (
            (cinder.InvalidConfigurationValue, cinder.InvalidInput, cinder.InvalidParameterValue, cinder.InvalidHost),
            errors.InvalidArgumentError,
            "",
        ),
        (cinder.NotSupportedOperation, errors.UnimplementedError, ""),
        (cinder.NotFound, errors.NotFoundError, ""),
        (cinder.ManageExistingInvalidReference, errors.InvalidArgumentError, ""),
        (cinder.ManageExistingVolumeTypeMismatch, errors.FailedPreconditionError, ""),
        ((cinder.Duplicate, cinder.ManageExistingAlreadyManaged), errors.AlreadyExistsError, ""),
        (
            (cinder.ZoneManagerException, cinder.FCZoneDriverException, cinder.FCSanLookupServiceException),
            errors.UnavailableError,
            "the zones of a Fibre Channel fabric could not be read or changed",
        ),
        (cinder.ServiceUnavailable, errors.UnavailableError, ""),
        (cinder.APITimeout, errors.UnavailableError, ""),
        ((cinder.NotAuthorized, cinder.InvalidAuthKey), errors.FailedPreconditionError, "the backend refused the controller's credentials"),
        (cinder.CinderException, None, ""),
        (NotImplementedError, errors.UnimplementedError, "the driver cannot do this"),
        (
            processutils.NoRootWrapSpecified,
            errors.FailedPreconditionError,
            "this driver needs root, and the controller is not: run the controller as a service that is root"
            " (storage:lookup:controller:controller_user: root, and state.apply storage.controller)",
        ),
        (processutils.ProcessExecutionError, None, ""),
        (coordination.LockAcquireFailed, errors.AbortedError, ""),
        ((cfg.ConfigFileValueError, cfg.RequiredOptError), errors.InvalidArgumentError, ""),
        (db.DBConnectionError, errors.UnavailableError, ""),
        (db.DBError, errors.InternalError, ""),
        (paramiko.AuthenticationException, errors.FailedPreconditionError, "the backend refused the controller's credentials"),
        (paramiko.SSHException, errors.UnavailableError, ""),
        (requests.exceptions.SSLError, errors.FailedPreconditionError, "the backend's certificate is not trusted"),
        (requests.exceptions.RequestException, errors.UnavailableError, ""),
    ]
    return rows
