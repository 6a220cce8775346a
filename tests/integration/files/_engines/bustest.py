"""
An engine of the tests: the real server over operations that need no storage, with switches for
what can go wrong.

Files in the master's cache folder are its switches and its trace: ``bustest.pid``,
``bustest.executed``, ``bustest.published``, ``bustest.broken`` (the controller cannot start),
``bustest.drop`` (the next reply is lost), ``bustest.marker``.
"""

import json
import os
import sqlite3
import time
from pathlib import Path

from saltstorage.bus import engine
from saltstorage.bus.publisher import Publisher
from saltstorage.errors import FailedPreconditionError, NotFoundError


class Entry:
    def __init__(self, state, digest, reply=None):
        self.state, self.digest, self.reply = state, digest, reply


class FileJournal:
    """A journal that survives the engine; the requests of another process are new again."""

    def __init__(self, path):
        self._path = path
        with self._open() as db:
            db.execute("create table if not exists requests (id primary key, digest, reply, pid)")

    def _open(self):
        return sqlite3.connect(self._path, timeout=30, isolation_level="IMMEDIATE")

    def begin(self, request_id, minion, digest, op, signed):
        with self._open() as db:
            known = self.known(request_id, db)
            if known is None:
                db.execute("insert into requests values (?, ?, null, ?)", (request_id, digest, os.getpid()))
                return Entry("new", digest)
            if known.state == "new":
                db.execute("update requests set pid = ? where id = ?", (os.getpid(), request_id))
            return known

    def known(self, request_id, db=None):
        found = (db or self._open()).execute("select digest, reply, pid from requests where id = ?", (request_id,)).fetchone()
        if found is None:
            return None
        digest, reply, pid = found
        return Entry("done" if reply else "running" if pid == os.getpid() else "new", digest, reply)

    def finish(self, request_id, reply):
        with self._open() as db:
            db.execute("update requests set reply = ? where id = ?", (reply, request_id))

    def prune(self, older_than, reads_older_than):
        return 0


class Service:
    def __init__(self, folder):
        self._folder = folder
        self.journal = FileJournal(folder / "bustest.sqlite")

    def start(self):
        if (self._folder / "bustest.broken").exists():
            raise FailedPreconditionError("the test broke it", field="storage:backends")
        self._trace({"mark": "started"})

    def close(self):
        pass

    def execute(self, op, args, caller):
        start = time.time()
        # A line is written at once, so that lines of parallel operations do not mix.
        self._trace({"op": op, "mark": args.get("mark"), "caller": caller, "begun": start})
        time.sleep(args.get("seconds", 0))
        if op == "missing":
            raise NotFoundError("volume 'x' does not exist", field="name", details={"name": "x"})
        if op == "secret":
            return {"auth_password": (self._folder / "bustest.marker").read_text()}
        if op != "echo":
            raise RuntimeError("words that must not be seen")
        self._trace({"op": op, "mark": args.get("mark"), "caller": caller, "ended": time.time(), "begun_at": start})
        return {"args": args, "caller": caller}

    def _trace(self, entry):
        with open(self._folder / "bustest.executed", "a") as file:
            file.write(json.dumps(entry) + "\n")


def start():
    folder = Path(__opts__["cachedir"])
    (folder / "bustest.new").write_text(str(os.getpid()))
    (folder / "bustest.new").replace(folder / "bustest.pid")
    (folder / "bustest.published").touch()
    engine.RETRY_INTERVAL = 2.0
    _watch_replies(folder)
    engine.run(__opts__, lambda: Service(folder))


def _watch_replies(folder):
    publish, switch = Publisher.__call__, folder / "bustest.drop"

    def maybe(self, minion, tag, data):
        if switch.exists():
            switch.unlink()
            return True
        found = publish(self, minion, tag, data)
        with open(folder / "bustest.published", "a") as file:
            file.write("." if found else "")
        return found

    Publisher.__call__ = maybe
