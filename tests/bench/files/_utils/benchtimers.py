"""
Timers around functions of the project and of what it uses, which write one line a call: what,
when, and how long.

A time is exclusive: less what timed functions called within took. The files are read by the
benchmark, which sums what lies between two moments; so nothing has to be reset, and threads and
processes need no agreement.
"""

import atexit
import functools
import json
import threading
import time

_own = threading.local()
_guard = threading.Lock()
_lines = []
_path = None


def install_consumer(path):
    """
    Time a state run in this process.
    """
    import salt.state

    from saltstorage.bus import client, envelope, eventbus, keys
    from saltstorage.consumer import presence, steps
    from saltstorage.consumer.connectors import remote
    from saltstorage.consumer.devices import block, links, loop
    from saltstorage.consumer.host import locks, records
    from saltstorage.plans import skeleton

    _start(path)
    wrap(salt.state.HighState, "render_highstate", "salt: render")
    wrap(salt.state.State, "call_high", "salt: compile and order")
    wrap(salt.state.State, "call", "salt: each state")
    wrap(skeleton, "run", "states: look, compare, tell")
    wrap(client.BusClient, "call", "bus: wait for the controller")
    wrap(client._Link, "open", "bus: subscribe")
    wrap(eventbus.EventBus, "fire_master", "bus: fire")
    wrap(envelope, "seal_request", "bus: sign the request")
    wrap(envelope, "open_reply", "bus: open the reply")
    wrap(keys.OwnKeys, "private", "bus: load the key")
    # Each in os-brick's process; the first has its start.
    wrap(remote.Remote, "connector_properties", "os-brick: start, connector properties")
    for name in ("connect", "disconnect"):
        wrap(remote.Remote, name, "os-brick: attach, detach")
    for name in ("save", "remove"):
        wrap(records.RecordStore, name, "attachment records, synced")
    for name in ("attach", "detach", "refresh_size"):
        wrap(loop, name, "loop device")
    wrap(steps, "find_holders", "checks: holders")
    for name in ("look", "current"):
        wrap(presence, name, "checks: identity")
    for name in ("check_readable", "check_size", "identity"):
        wrap(block, name, "checks: identity")
    wrap(block, "flush", "flush")
    for name in ("make", "remove"):
        wrap(links.DeviceLinks, name, "links in /dev/storage")
    wrap(locks.VolumeLocks, "_take", "locks")


def install_engine(paths):
    """
    Time the engine in this process, and the controller in the process that it starts.
    """
    from saltstorage.bus import envelope, replies, server
    from saltstorage.environment.location import Interpreter
    from saltstorage.link import remote

    _start(paths["engine"])
    wrap(server.Server, "handle", "bus: verify the request")
    wrap(server.Server, "_serve", "bus: serve")
    wrap(envelope, "seal_reply", "bus: seal the reply")
    wrap(replies.Replies, "publish", "bus: publish the reply")
    wrap(remote.RemoteService, "call", "socket: the engine's calls")
    code = (
        "import runpy, sys, benchtimers; benchtimers.install_controller(sys.argv.pop(1));"
        " runpy.run_module(sys.argv.pop(1), run_name='__main__')"
    )
    Interpreter.command = lambda self, module: [self.python, "-c", code, paths["controller"], f"saltstorage.{module}"]


def install_controller(path):
    """
    Time the controller in this process.
    """
    import sqlalchemy.engine.default
    from tooz.drivers.file import FileLock

    from saltstorage.controller import service
    from saltstorage.controller.catalog import catalog, journal
    from saltstorage.controller.cinder.provider import CinderlibProvider

    _start(path)
    for name in ("begin", "finish"):
        wrap(journal.Journal, name, "journal")
    wrap(service.Service, "execute", "service")
    for name in ("add", "update", "remove"):
        wrap(catalog.Catalog, name, "catalog: write")
    for name in ("_all", "usage", "backend_states"):
        wrap(catalog.Catalog, name, "catalog: read")
    # Of the journal, the catalog and cinderlib's metadata alike: here SQLite syncs.
    wrap(sqlalchemy.engine.default.DefaultDialect, "do_commit", "databases: commit")
    for name in ("acquire", "release"):
        wrap(FileLock, name, "locks")
    for name in ("create_volume", "delete_volume", "connect", "disconnect"):
        wrap(CinderlibProvider, name, "cinderlib's metadata")
    _when_loaded(CinderlibProvider)


def wrap(owner, name, label):
    """
    Replace ``owner.name`` by itself with a timer.
    """
    function = getattr(owner, name)

    @functools.wraps(function)
    def timed(*args, **kwargs):
        stack = _own.__dict__.setdefault("stack", [])
        stack.append(0.0)
        start = time.perf_counter()
        try:
            return function(*args, **kwargs)
        finally:
            took = time.perf_counter() - start
            within = stack.pop()
            if stack:
                stack[-1] += took
            with _guard:
                _lines.append((label, time.time(), took - within, took))
            if not stack:
                flush()

    setattr(owner, name, timed)


def flush():
    """
    Write what was timed so far.
    """
    global _lines
    with _guard:
        lines, _lines = _lines, []
    if _path and lines:
        with open(_path, "a", encoding="utf-8") as file:
            file.write("".join(json.dumps(line) + "\n" for line in lines))


def _when_loaded(provider):
    """
    Time the driver once it is loaded: imported before the bridge has prepared for that, Cinder
    would load otherwise.
    """
    load = provider.load

    def loaded(self):
        load(self)
        for name in ("create_volume", "delete_volume", "create_export", "initialize_connection", "terminate_connection", "remove_export"):
            if not hasattr(getattr(type(self.driver), name), "__wrapped__"):
                wrap(type(self.driver), name, "driver")

    provider.load = loaded


def _start(path):
    global _path
    _path = path
    atexit.register(flush)
