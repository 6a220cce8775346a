"""
An engine of the tests: the real server over operations that need no storage.
"""

import threading
import time

import salt.client
import salt.utils.event

from saltstorage.bus import engine
from saltstorage.errors import NotFoundError


class Entry:
    def __init__(self, state, digest, reply=None):
        self.state, self.digest, self.reply = state, digest, reply


class Memory:
    def __init__(self):
        self._lock = threading.Lock()
        self._entries = {}

    def begin(self, request_id, minion, digest, op, time):
        with self._lock:
            known = self._entries.get(request_id)
            if known:
                return known
            self._entries[request_id] = Entry("running", digest)
            return Entry("new", digest)

    def known(self, request_id):
        return self._entries.get(request_id)

    def finish(self, request_id, reply):
        with self._lock:
            self._entries[request_id] = Entry("done", self._entries[request_id].digest, reply)

    def prune(self, older_than):
        return 0


class Service:
    def __init__(self, opts):
        self.journal = Memory()

    def start(self):
        pass

    def close(self):
        pass

    def execute(self, op, args, caller):
        if op == "echo":
            time.sleep(args.get("seconds", 0))
            return {"args": args, "caller": caller}
        if op == "missing":
            raise NotFoundError("volume 'x' does not exist", field="name", details={"name": "x"})
        raise RuntimeError("secret in a message")


def start():
    threading.Thread(target=_bare, daemon=True).start()
    engine.run(__opts__, lambda: Service(__opts__))


def _bare():
    local = salt.client.LocalClient(mopts=__opts__)
    with salt.utils.event.get_event("master", sock_dir=__opts__["sock_dir"], opts=__opts__, listen=True) as bus:
        while True:
            event = bus.get_event(wait=5, tag="bare/request", full=True)
            if event:
                data = event["data"].get("data", event["data"])
                local.pub([data["minion"]], "event.fire", [{"x": 1}, data["tag"]], tgt_type="list")
