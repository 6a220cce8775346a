"""The journal that the bus needs: each request is carried out once, and answered as often as it is
repeated.

These are protocols, and the catalog has a journal of this form. So the bus imports nothing of the
controller, the catalog nothing of the bus, and the tests' own engine brings a journal of its own.
"""

from __future__ import annotations

from typing import Protocol


class JournalEntry(Protocol):
    """The journal's knowledge of a request.

    :ivar state: ``new``: carry it out; ``running``: it is being carried out; ``done``: ``reply``
        is the answer; ``old``: it never ended, and is too old to be carried out; ``full``: its
        minion has too many requests, and it was not recorded.
    :ivar digest: digest of the bytes that were signed, when the request first came.
    :ivar reply: the sealed reply; None for a finished request whose reply is not kept any more.
    """

    @property
    def state(self) -> str:
        """``new``, ``running``, ``done``, ``old`` or ``full``."""

    @property
    def digest(self) -> str:
        """SHA-256, hexadecimal."""

    @property
    def reply(self) -> bytes | None:
        """The sealed reply, or None."""


class Journal(Protocol):
    """Memory of requests."""

    def begin(self, request_id: str, minion: str, digest: str, op: str, signed: float) -> JournalEntry:
        """Record a request unless it is known, atomically, and return what is known of it.

        A request that was running when its engine died comes back as ``new``, unless it is so old
        that nobody can be waiting for it.
        """

    def known(self, request_id: str) -> JournalEntry | None:
        """Return what is known of a request, or None; nothing is recorded."""

    def finish(self, request_id: str, reply: bytes) -> None:
        """Record the sealed reply."""

    def prune(self, older_than: float, reads_older_than: float) -> int:
        """Forget finished requests that were signed before ``older_than``, seconds since the epoch.

        :param reads_older_than: the same for requests that only read.
        :returns: how many were forgotten.
        """
