"""Attached volumes that are used encrypted, by their names."""

from __future__ import annotations

from .attachment import Attachment
from .encryption import Encryption
from .localhost import LocalHost


class EncryptedVolumes:
    """Encrypts and opens attached volumes.

    :param host: this host.
    :param encryption: does the work on a device.
    """

    def __init__(self, host: LocalHost, encryption: Encryption) -> None:
        self._host = host
        self._encryption = encryption

    def needs_encryption(self, name: str) -> bool:
        """Return whether an attached volume is still empty, or only half encrypted."""
        record, _, device = self._host.load_attached(name)
        return self._encryption.needs_making(record, device)

    def encrypt(self, name: str, *, resume: bool) -> None:
        """Encrypt an attached volume that is empty.

        The call comes between :meth:`.Marks.begin_encryption` and :meth:`open`.

        :param resume: the remains of an interrupted call may be overwritten.
        :raises AlreadyExistsError: it is not empty.
        """
        with self._host.lock(name):
            record, _, device = self._host.load_attached(name)
            self._encryption.make(record, device, resume=resume)

    def open(self, name: str) -> Attachment:
        """Open an attached volume that is encrypted, and link it; an open volume stays open.

        :raises AlreadyExistsError: it holds data that is not encrypted.
        :raises FailedPreconditionError: the passphrase is missing or wrong.
        """
        with self._host.lock(name):
            record, _, device = self._host.load_attached(name)
            return self._host.attachment(self._encryption.open(record, device))
