"""The errors of the project: one tree, one stable code each, the same on both ends of the bus.

The codes are those of the Container Storage Interface (CSI) specification, which took them from
gRPC: https://github.com/container-storage-interface/spec/blob/master/spec.md#error-scheme.  A
class stands for the operator's next step; the message says it in words.  Nothing in the project
decides by the text of a message.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

try:
    # Salt shows such an error as one line, without a traceback.
    from salt.exceptions import CommandExecutionError
except ImportError:  # in the storage environment there is no Salt
    CommandExecutionError = Exception


class StorageError(CommandExecutionError):
    """Base of every error that the project raises on purpose.

    :param message: the fault and the next step, without secrets.
    :param field: the parameter that is wrong, where one is.
    :param details: further facts as plain data (names, sizes); they cross the bus.
    :param answered: whether the controller answered with this error. False: it was found here,
        such as that no controller answers.

    >>> str(NotFoundError("volume 'db' does not exist"))
    "NOT_FOUND: volume 'db' does not exist"
    """

    code: ClassVar[str] = "INTERNAL"
    #: Whether the same call may succeed later with nothing changed by the operator.
    retryable: ClassVar[bool] = False
    #: Whether the outcome is known: the operation was refused or undone. False: it may have been
    #: carried out, or may still be.
    final: ClassVar[bool] = True

    def __init__(
        self, message: str = "", *, field: str | None = None, details: Mapping[str, Any] | None = None, answered: bool = False
    ) -> None:
        super().__init__(f"{self.code}: {message}")
        self.message = message
        self.field = field
        self.details = dict(details or {})
        self.answered = answered

    def to_wire(self) -> dict[str, Any]:
        """Return the error as plain data: ``code``, ``message``, ``field`` (or None) and
        ``details``.
        """
        return {"code": self.code, "message": self.message, "field": self.field, "details": self.details}


class LostError(Exception):
    """Another process of this machine went away during a call, did not answer in time, or did not
    speak the project's protocol. Whether it carried the call out is not known.

    It is no :class:`StorageError`, since it says nothing yet to a user: the caller knows the next
    step.
    """


class InvalidArgumentError(StorageError):
    """The request itself is wrong: correct the named field."""

    code = "INVALID_ARGUMENT"


class NotFoundError(StorageError):
    """A named thing does not exist: create it or correct the name."""

    code = "NOT_FOUND"


class AlreadyExistsError(StorageError):
    """The name exists with other properties: choose which is right."""

    code = "ALREADY_EXISTS"


class FailedPreconditionError(StorageError):
    """The system is not in a state for this: do what the message names first."""

    code = "FAILED_PRECONDITION"


class OutOfRangeError(StorageError):
    """A value is outside what is possible, such as a size below the present one."""

    code = "OUT_OF_RANGE"


class ResourceExhaustedError(StorageError):
    """No space, quota or slot is left: make room or raise the limit."""

    code = "RESOURCE_EXHAUSTED"
    retryable = True


class PermissionDeniedError(StorageError):
    """The policy, or the proof of who asks, does not allow this."""

    code = "PERMISSION_DENIED"


class AbortedError(StorageError):
    """Another operation holds the volume: try again when it has ended."""

    code = "ABORTED"
    retryable = True


class UnavailableError(StorageError):
    """The controller or the backend does not answer: check it; a later try may succeed."""

    code = "UNAVAILABLE"
    retryable = True
    final = False


class DeadlineExceededError(StorageError):
    """The operation did not end in time; it may still end later."""

    code = "DEADLINE_EXCEEDED"
    final = False


class UnimplementedError(StorageError):
    """The backend, its driver or this installation cannot do this."""

    code = "UNIMPLEMENTED"


class DataLossError(StorageError):
    """Going on could destroy data, such as when a device is not the volume that it should be."""

    code = "DATA_LOSS"


class InternalError(StorageError):
    """A fault in the project or in a library below it; the log has the traceback."""

    code = "INTERNAL"
    final = False


BY_CODE: dict[str, type[StorageError]] = {
    cls.code: cls
    for cls in (
        InvalidArgumentError,
        NotFoundError,
        AlreadyExistsError,
        FailedPreconditionError,
        OutOfRangeError,
        ResourceExhaustedError,
        PermissionDeniedError,
        AbortedError,
        UnavailableError,
        DeadlineExceededError,
        UnimplementedError,
        DataLossError,
        InternalError,
    )
}


def from_wire(data: Mapping[str, Any]) -> StorageError:
    """Return the typed error that the controller answered with, from what
    :meth:`StorageError.to_wire` returned there.

    An unknown code, as a newer controller may send, becomes :class:`InternalError` with the code
    in its message.
    """
    code = str(data.get("code", ""))
    message = str(data.get("message", ""))
    field = data.get("field")
    details = data.get("details")
    cls = BY_CODE.get(code)
    if cls is None:
        cls, message = InternalError, f"{code or 'no code'}: {message}"
    return cls(
        message,
        field=field if isinstance(field, str) else None,
        details=details if isinstance(details, dict) else None,
        answered=True,
    )
