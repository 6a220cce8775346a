"""The journal of requests: each is carried out once, and answered as often as it is repeated."""

from __future__ import annotations

import contextlib
import time
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from ...errors import AbortedError
from ..access.locks import Locks, instance_key
from .catalog import Catalog

if TYPE_CHECKING:
    from sqlalchemy import Connection as SqlConnection


@dataclass(frozen=True, kw_only=True)
class JournalEntry:
    """The journal's knowledge of a request.

    :ivar state: ``new``: carry it out; ``running``: it is being carried out; ``done``: ``reply``
        is the answer; ``old``: it never ended, and is too old to be carried out; ``full``: its
        minion has too many requests, and it was not recorded.
    :ivar digest: digest of the bytes that were signed, when the request first came.
    :ivar reply: the sealed reply; None for a finished request whose reply is not kept any more.
    """

    state: Literal["new", "running", "done", "old", "full"]
    digest: str
    reply: bytes | None = None


#: Operations that only read, and whose answers are large: a late repetition is carried out again,
#: not remembered.
READS = ("inventory",)
#: Requests that are kept of one minion. The youngest must stay, or they could be replayed, so a
#: minion that has as many may send no more.
MOST_REQUESTS = 10_000
#: Bytes of replies that are kept of one minion; some more while the last is recorded.
MOST_BYTES = 16 * 2**20
#: Stands for the engine of requests that died with theirs and are not resumed.
_NONE = ""


class Journal:
    """The journal in the catalog, for one engine.

    The engine holds a lock from :meth:`open` for as long as it lives. So another engine (after a
    crash, or of another master) can tell a running request from a request that died with its
    engine.

    :param max_age: oldest request that is accepted, seconds. For as long after its start, this
        engine also resumes older requests that died with another engine: their minions may still
        wait. After that window requests are not resumed; otherwise an attacker could replay a
        recorded request at a time of their choosing.
    """

    def __init__(self, catalog: Catalog, locks: Locks, max_age: float) -> None:
        self.engine = catalog.engine
        self._locks = locks
        self._max_age = max_age
        self._started = time.monotonic()
        self.instance = uuid.uuid4().hex
        self._life = contextlib.ExitStack()

    def open(self) -> None:
        """Begin the engine's life in the journal."""
        self._life.enter_context(self._locks.held(instance_key(self.instance), why="the engine"))

    def close(self) -> None:
        """End the engine's life in the journal, if it began: its running requests count as died."""
        self._life.close()

    def begin(self, request_id: str, minion: str, digest: str, op: str, signed: float) -> JournalEntry:
        """Record a request, unless it is known, and return its entry.

        :param signed: time of the signature, seconds since the epoch.
        """
        from sqlalchemy import exc

        from .schema import requests

        row = {"id": request_id, "minion": minion, "op": op, "digest": digest, "engine": self.instance, "received": signed}
        if self._is_old(signed):
            # Never recorded as new: it may have been forgotten since the caller looked.
            return self._known(request_id) or JournalEntry(state="old", digest=digest)
        try:
            with self.engine.begin() as connection:
                connection.execute(requests.insert().values(**row))
                if self._has_room(connection, minion):
                    return JournalEntry(state="new", digest=digest)
                connection.execute(requests.delete().where(requests.c.id == request_id))
            return JournalEntry(state="full", digest=digest)
        except exc.IntegrityError:
            return self._known(request_id) or JournalEntry(state="running", digest=digest)

    def known(self, request_id: str) -> JournalEntry | None:
        """Return the entry of a request, or None; nothing is recorded."""
        from .schema import requests

        with self.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            found = connection.execute(requests.select().where(requests.c.id == request_id)).mappings().one_or_none()
        if found is None:
            return None
        if found["finished"] is not None:
            return JournalEntry(state="done", digest=found["digest"], reply=found["reply"])
        return JournalEntry(state="running", digest=found["digest"])

    def finish(self, request_id: str, reply: bytes) -> None:
        """Record the sealed reply of a request. When its minion has too many bytes of replies, the
        oldest are dropped.
        """
        from sqlalchemy import func, select

        from .schema import requests

        size = func.length(requests.c.reply)
        with self.engine.begin() as connection:
            connection.execute(requests.update().where(requests.c.id == request_id).values(finished=time.time(), reply=reply))
            minion = connection.execute(select(requests.c.minion).where(requests.c.id == request_id)).scalar()
            if (connection.execute(select(func.sum(size)).where(requests.c.minion == minion)).scalar() or 0) <= MOST_BYTES:
                return
            answered = (requests.c.minion == minion, requests.c.finished.is_not(None), requests.c.reply.is_not(None))
            newest = select(requests.c.finished, size).where(*answered).order_by(requests.c.finished.desc())
            left = MOST_BYTES // 2
            for finished, length in connection.execute(newest).all():
                left -= length
                if left < 0:
                    # The requests themselves stay known, so that none is carried out again.
                    old = (*answered, requests.c.finished <= finished, requests.c.id != request_id)
                    connection.execute(requests.update().where(*old).values(reply=None))
                    return

    def prune(self, older_than: float, reads_older_than: float) -> int:
        """Forget requests that were signed before a time, in seconds since the epoch, and return
        how many.

        A request that died with its engine and was not resumed by now never will be.

        The caller refuses requests of that age, so no forgotten request can be repeated. A request
        that never finished is kept for another day, since it may still be running.

        :param older_than: for operations that change something; so old that no minion waits for
            the answer any more.
        :param reads_older_than: for operations that read, :data:`READS`.
        """
        from sqlalchemy import and_, or_

        from .schema import requests

        ended = or_(requests.c.finished.is_not(None), requests.c.received < older_than - 86400)
        old = and_(requests.c.received < older_than, ended)
        read = and_(requests.c.received < reads_older_than, requests.c.op.in_(READS), requests.c.finished.is_not(None))
        self._give_up()
        with self.engine.begin() as connection:
            return connection.execute(requests.delete().where(or_(old, read))).rowcount

    def _give_up(self) -> None:
        """Write down which requests are too old to be resumed, so that no later engine resumes
        them.
        """
        from sqlalchemy import select

        from .schema import requests

        if not self._is_settled():
            return
        left = (requests.c.received < time.time() - self._max_age, requests.c.finished.is_(None))
        with self.engine.begin() as connection:
            for engine in connection.execute(select(requests.c.engine).where(*left).distinct()).scalars().all():
                if engine not in (_NONE, self.instance) and not self._is_alive(engine):
                    connection.execute(requests.update().where(*left, requests.c.engine == engine).values(engine=_NONE))

    def _has_room(self, connection: SqlConnection, minion: str) -> bool:
        """Return whether a minion has no more requests than it may, after the oldest were
        forgotten where possible.
        """
        from sqlalchemy import func, select

        from .schema import requests

        mine = requests.c.minion == minion
        count = select(func.count()).select_from(requests).where(mine)
        if connection.execute(count).scalar_one() <= MOST_REQUESTS:
            return True
        finished = (mine, requests.c.finished.is_not(None))
        newest = select(requests.c.finished).where(*finished).order_by(requests.c.finished.desc())
        last = connection.execute(newest.offset(MOST_REQUESTS // 2).limit(1)).scalar()
        if last is not None:
            # Requests that are young enough to be accepted must stay known.
            old = (*finished, requests.c.finished <= last, requests.c.received < time.time() - self._max_age)
            connection.execute(requests.delete().where(*old))
        return connection.execute(count).scalar_one() <= MOST_REQUESTS

    def _is_old(self, signed: float) -> bool:
        return time.time() - signed > self._max_age

    def _is_settled(self) -> bool:
        """Return whether this engine has run for so long that no minion waits for requests that
        died before its start.
        """
        return time.monotonic() - self._started > self._max_age

    def _known(self, request_id: str) -> JournalEntry | None:
        from .schema import requests

        with self.engine.begin() as connection:
            found = connection.execute(requests.select().where(requests.c.id == request_id)).mappings().one_or_none()
            if found is None:
                return None
            if found["finished"] is not None:
                return JournalEntry(state="done", digest=found["digest"], reply=found["reply"])
            if found["engine"] == _NONE:
                return JournalEntry(state="old", digest=found["digest"])
            if found["engine"] == self.instance or self._is_alive(found["engine"]):
                return JournalEntry(state="running", digest=found["digest"])
            if self._is_old(found["received"]) and self._is_settled():
                return JournalEntry(state="old", digest=found["digest"])
            # Its engine died. Where transactions read side by side, two engines may see that: the
            # first to write resumes it.
            dead = (requests.c.id == request_id, requests.c.engine == found["engine"], requests.c.finished.is_(None))
            mine = connection.execute(requests.update().where(*dead).values(engine=self.instance)).rowcount == 1
            return JournalEntry(state="new" if mine else "running", digest=found["digest"])

    def _is_alive(self, instance: str) -> bool:
        try:
            with self._locks.held(instance_key(instance), why="a look at the engine", timeout=0):
                return False
        except AbortedError:
            return True
