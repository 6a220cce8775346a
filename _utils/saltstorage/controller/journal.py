"""The journal of requests: each is carried out once, and answered as often as it is repeated."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass
from typing import Literal

from ..errors import AbortedError
from .catalog import Catalog
from .locks import Locks, instance_key


@dataclass(frozen=True, kw_only=True)
class JournalEntry:
    """What the journal has of a request.

    :ivar state: ``new``: carry it out; ``running``: it is being carried out; ``done``: ``reply`` is the answer.
    :ivar digest: digest of the bytes that were signed, when the request first came.
    :ivar reply: the sealed reply.
    """

    state: Literal["new", "running", "done"]
    digest: str
    reply: bytes | None = None


#: Operations that only read, and whose answers are large: repeated late, they are better carried out again than remembered.
READS = ("inventory",)


class Journal:
    """The journal in the catalog, for one engine.

    The engine holds a lock for as long as it lives, so that another one (after a crash, or of another master)
    can tell a request that runs from one that died with its engine.
    """

    def __init__(self, catalog: Catalog, locks: Locks) -> None:
        self._engine = catalog.engine
        self._locks = locks
        self._instance = uuid.uuid4().hex
        self._alive = locks.held(instance_key(self._instance), why="the engine")
        self._alive.__enter__()

    def close(self) -> None:
        """End the engine's life in the journal: what still runs counts as died."""
        self._alive.__exit__(None, None, None)

    def begin(self, request_id: str, minion: str, digest: str, op: str, time: float) -> JournalEntry:
        """Record a request, unless it is known, and return what is known of it.

        :param time: when it was signed, seconds since the epoch.
        """
        from sqlalchemy import exc

        from .schema import requests

        row = {"id": request_id, "minion": minion, "op": op, "digest": digest, "engine": self._instance, "received": time}
        try:
            with self._engine.begin() as connection:
                connection.execute(requests.insert().values(**row))
            return JournalEntry(state="new", digest=digest)
        except exc.IntegrityError:
            return self._known(request_id)

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
        """Record the sealed reply of a request."""
        from .schema import requests

        with self._engine.begin() as connection:
            connection.execute(requests.update().where(requests.c.id == request_id).values(finished=time.time(), reply=reply))

    def prune(self, older_than: float, reads_older_than: float) -> int:
        """Forget requests that were signed before a time, in seconds since the epoch, and return how many.

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
        with self._engine.begin() as connection:
            return connection.execute(requests.delete().where(or_(old, read))).rowcount

    def _known(self, request_id: str) -> JournalEntry:
        from .schema import requests

        with self._engine.begin() as connection:
            found = connection.execute(requests.select().where(requests.c.id == request_id)).mappings().one()
            if found["finished"] is not None:
                return JournalEntry(state="done", digest=found["digest"], reply=found["reply"])
            if found["engine"] == self._instance or self._is_alive(found["engine"]):
                return JournalEntry(state="running", digest=found["digest"])
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
