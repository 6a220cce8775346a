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
    """What the journal has of a request.

    :ivar state: ``new``: carry it out; ``running``: it is being carried out; ``done``: ``reply`` is the answer; ``old``: it never ended,
        and is too old to be carried out; ``full``: there are too many of this minion, and it was not recorded.
    :ivar digest: digest of the bytes that were signed, when the request first came.
    :ivar reply: the sealed reply; None for one that is done when that is not kept any more.
    """

    state: Literal["new", "running", "done", "old", "full"]
    digest: str
    reply: bytes | None = None


#: Operations that only read, and whose answers are large: repeated late, they are better carried out again than remembered.
READS = ("inventory",)
#: Requests that are kept of one minion. The youngest must be, or they could be replayed, so where these are as many, no more are taken.
MOST_REQUESTS = 10_000
#: Bytes of replies that are kept of one minion; some more while the last is recorded.
MOST_BYTES = 16 * 2**20
#: In place of the engine, of requests that died with theirs and are not taken up again.
_NONE = ""


class Journal:
    """The journal in the catalog, for one engine.

    The engine holds a lock from :meth:`open` for as long as it lives, so that another one (after a crash, or of another master)
    can tell a request that runs from a request that died with its engine.

    :param max_age: oldest request that is taken, seconds. For as long after its start this engine also takes up older ones that died with
        another: their minions may wait still. Later nobody does, and who has recorded one could have it done at a time of their choosing.
    """

    def __init__(self, catalog: Catalog, locks: Locks, max_age: float) -> None:
        self._engine = catalog.engine
        self._locks = locks
        self._max_age = max_age
        self._started = time.monotonic()
        self._instance = uuid.uuid4().hex
        self._life = contextlib.ExitStack()

    def open(self) -> None:
        """Begin the engine's life in the journal."""
        self._life.enter_context(self._locks.held(instance_key(self._instance), why="the engine"))

    def close(self) -> None:
        """End the engine's life in the journal, if it began: requests that still run count as died."""
        self._life.close()

    def begin(self, request_id: str, minion: str, digest: str, op: str, signed: float) -> JournalEntry:
        """Record a request, unless it is known, and return what is known of it.

        :param signed: when it was signed, seconds since the epoch.
        """
        from sqlalchemy import exc

        from .schema import requests

        row = {"id": request_id, "minion": minion, "op": op, "digest": digest, "engine": self._instance, "received": signed}
        if self._is_old(signed):
            # Never recorded as new: it may have been forgotten since the caller looked.
            return self._known(request_id) or JournalEntry(state="old", digest=digest)
        try:
            with self._engine.begin() as connection:
                connection.execute(requests.insert().values(**row))
                if self._has_room(connection, minion):
                    return JournalEntry(state="new", digest=digest)
                connection.execute(requests.delete().where(requests.c.id == request_id))
            return JournalEntry(state="full", digest=digest)
        except exc.IntegrityError:
            return self._known(request_id) or JournalEntry(state="running", digest=digest)

    def known(self, request_id: str) -> JournalEntry | None:
        """Return what is known of a request, or None; nothing is recorded."""
        from .schema import requests

        with self._engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            found = connection.execute(requests.select().where(requests.c.id == request_id)).mappings().one_or_none()
        if found is None:
            return None
        if found["finished"] is not None:
            return JournalEntry(state="done", digest=found["digest"], reply=found["reply"])
        return JournalEntry(state="running", digest=found["digest"])

    def finish(self, request_id: str, reply: bytes) -> None:
        """Record the sealed reply of a request; of too many of its minion the oldest are dropped."""
        from sqlalchemy import func, select

        from .schema import requests

        size = func.length(requests.c.reply)
        with self._engine.begin() as connection:
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
        """Forget requests that were signed before a time, in seconds since the epoch, and return how many.

        What died with its engine and was not taken up again by now never will be.

        The caller refuses requests of that age, so none that is forgotten can be repeated. One that never finished
        is kept for another day, since it may be running still.

        :param older_than: for what changes something; so old that no minion waits for the answer any more.
        :param reads_older_than: for what has read, :data:`READS`.
        """
        from sqlalchemy import and_, or_

        from .schema import requests

        ended = or_(requests.c.finished.is_not(None), requests.c.received < older_than - 86400)
        old = and_(requests.c.received < older_than, ended)
        read = and_(requests.c.received < reads_older_than, requests.c.op.in_(READS), requests.c.finished.is_not(None))
        self._give_up()
        with self._engine.begin() as connection:
            return connection.execute(requests.delete().where(or_(old, read))).rowcount

    def _give_up(self) -> None:
        """Write down which requests are too old to be taken up, so that no engine that comes later does so."""
        from sqlalchemy import select

        from .schema import requests

        if not self._is_settled():
            return
        left = (requests.c.received < time.time() - self._max_age, requests.c.finished.is_(None))
        with self._engine.begin() as connection:
            for engine in connection.execute(select(requests.c.engine).where(*left).distinct()).scalars().all():
                if engine not in (_NONE, self._instance) and not self._is_alive(engine):
                    connection.execute(requests.update().where(*left, requests.c.engine == engine).values(engine=_NONE))

    def _has_room(self, connection: SqlConnection, minion: str) -> bool:
        """Return whether a minion has no more requests than it may, after the oldest were forgotten where that can be done."""
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
            # Those that are young enough to be taken must stay known.
            old = (*finished, requests.c.finished <= last, requests.c.received < time.time() - self._max_age)
            connection.execute(requests.delete().where(*old))
        return connection.execute(count).scalar_one() <= MOST_REQUESTS

    def _is_old(self, signed: float) -> bool:
        return time.time() - signed > self._max_age

    def _is_settled(self) -> bool:
        """Return whether this engine has run for long enough that nobody waits for what died before it started."""
        return time.monotonic() - self._started > self._max_age

    def _known(self, request_id: str) -> JournalEntry | None:
        from .schema import requests

        with self._engine.begin() as connection:
            found = connection.execute(requests.select().where(requests.c.id == request_id)).mappings().one_or_none()
            if found is None:
                return None
            if found["finished"] is not None:
                return JournalEntry(state="done", digest=found["digest"], reply=found["reply"])
            if found["engine"] == _NONE:
                return JournalEntry(state="old", digest=found["digest"])
            if found["engine"] == self._instance or self._is_alive(found["engine"]):
                return JournalEntry(state="running", digest=found["digest"])
            if self._is_old(found["received"]) and self._is_settled():
                return JournalEntry(state="old", digest=found["digest"])
            # Its engine died. Where transactions read side by side, two engines may see that: the first to write takes it over.
            dead = (requests.c.id == request_id, requests.c.engine == found["engine"], requests.c.finished.is_(None))
            mine = connection.execute(requests.update().where(*dead).values(engine=self._instance)).rowcount == 1
            return JournalEntry(state="new" if mine else "running", digest=found["digest"])

    def _is_alive(self, instance: str) -> bool:
        try:
            with self._locks.held(instance_key(instance), why="a look at it", timeout=0):
                return False
        except AbortedError:
            return True
