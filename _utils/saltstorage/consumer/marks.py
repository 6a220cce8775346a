"""Marks in the record of an attachment: work on the volume that was begun and not finished."""

from __future__ import annotations

from .localhost import LocalHost


class Marks:
    """Sets and clears the marks of attached volumes.

    :param host: this host.
    """

    def __init__(self, host: LocalHost) -> None:
        self._host = host

    def begin_format(self, name: str) -> bool:
        """Record that a file system is about to be made.

        :returns: whether an earlier attempt was not finished. Only after such an attempt may the
            contents of the device be overwritten (``resume`` of :func:`.mkfs.make`).
        """
        return self._set(name, "formatting", True)

    def end_format(self, name: str) -> None:
        """Record that the file system was made and synced, or that none was begun."""
        self._set(name, "formatting", False)

    def begin_encryption(self, name: str) -> bool:
        """Record that a volume is about to be encrypted.

        :returns: whether an earlier attempt was not finished.
        """
        return self._set(name, "encrypting", True)

    def end_encryption(self, name: str) -> None:
        """Record that encrypting was not begun; opening the volume records that it was done."""
        self._set(name, "encrypting", False)

    def _set(self, name: str, mark: str, value: bool) -> bool:
        with self._host.lock(name):
            record, _, _ = self._host.load_attached(name)
            was = bool(getattr(record, mark))
            if was != value:
                self._host.records.save(record.replace(**{mark: value}))
            return was
