"""Translation of os-brick's and oslo's errors into the project's, with all secrets masked."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from ...errors import (
    DeadlineExceededError,
    FailedPreconditionError,
    InternalError,
    StorageError,
    UnavailableError,
    UnimplementedError,
)
from .connection_info import secrets_of


@contextlib.contextmanager
def translate_errors(step: str, connection_info: Mapping[str, Any] | None = None) -> Iterator[None]:
    """Raise errors of os-brick and oslo, within the context, as errors of the project.

    The types of the errors decide, never their texts.

    :param step: the work in the context: ``"attach"``.
    :param connection_info: its secrets are masked wherever they appear.
    """
    try:
        yield
    except StorageError:
        raise
    except Exception as error:
        # `from None`: a traceback in a log must not show the original text.
        raise _translate(error, step, connection_info or {}) from None


def _translate(error: Exception, step: str, connection_info: Mapping[str, Any]) -> StorageError:
    if isinstance(error, ImportError):
        return FailedPreconditionError(
            f"cannot {step}: os-brick cannot be loaded ({error.name} is missing);"
            " apply the state storage.consumer, which repairs the storage environment"
        )
    from os_brick import exception
    from oslo_concurrency import processutils

    text = _mask(error, connection_info)
    message = f"cannot {step}: {text}"
    if isinstance(error, exception.ExecutionTimeout):
        return DeadlineExceededError(message)
    if isinstance(error, processutils.ProcessExecutionError):
        # os-brick turns "no such command" into this type and keeps the cause as the context.
        if isinstance(error.__context__, FileNotFoundError) or error.exit_code == 127:
            command = str(error.cmd or "").split(" ")[0]
            return FailedPreconditionError(f"cannot {step}: the command {command} is missing; install the package that has it")
        return UnavailableError(message)
    if isinstance(error, exception.InvalidConnectorProtocol):
        return UnimplementedError(
            f"cannot {step}: os-brick has no connector for {connection_info.get('driver_volume_type')!r} on this host"
        )
    if isinstance(error, exception.VolumeEncryptionNotSupported | exception.VolumeLocalCacheNotSupported):
        return UnimplementedError(message)
    if isinstance(error, exception.NoFibreChannelHostsFound | exception.BlockDeviceReadOnly):
        return FailedPreconditionError(message)
    if isinstance(error, exception.BrickException | OSError):
        # Targets, portals, paths and devices that do not appear or do not go: the storage network
        # decides.
        return UnavailableError(message)
    if isinstance(error, KeyError | TypeError | ValueError | AttributeError | NotImplementedError):
        # The text may quote the wrong data, so only the type is named.
        return InternalError(
            f"cannot {step}: os-brick raised {type(error).__name__} for this {connection_info.get('driver_volume_type')!r} connection"
        )
    return InternalError(message)


def _mask(error: Exception, connection_info: Mapping[str, Any]) -> str:
    from oslo_utils import strutils

    text = str(strutils.mask_password(str(error)))
    for secret in secrets_of(connection_info):
        text = text.replace(secret, "***")
    # ExceptionChainer prints tracebacks; the end of the text says what happened.
    return text.strip()[-1000:]
