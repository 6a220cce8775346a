"""
Functions of the tests: call the controller from a minion, and send what no honest minion would.
"""

import time

import salt.crypt
import salt.utils.event

from saltstorage.bus import client
from saltstorage.errors import StorageError


def call(op, args=None, timeout=None, times=1):
    """Call an operation ``times`` times and return the last result, or the error as data, and how long each took."""
    bus = client.BusClient(__opts__, context=__context__)
    took = []
    result = None
    for _ in range(times):
        start = time.monotonic()
        try:
            result = bus.call(op, args or {}, timeout=timeout)
        except StorageError as exc:
            result = {"error": exc.to_wire()}
        took.append(time.monotonic() - start)
    return {"result": result, "seconds": took}


def compare(times=1):
    """Time the project's round trip and Salt's bare one in turn: an event to the master, and one fired back by the engine."""
    bus = client.BusClient(__opts__, context=__context__)
    took = {"bare": [], "ours": []}
    with salt.utils.event.get_event("minion", sock_dir=__opts__["sock_dir"], opts=__opts__, listen=True) as event:
        for number in range(times):
            start = time.monotonic()
            tag = f"bare/reply/{number}/{time.time()}"
            event.fire_master({"minion": __opts__["id"], "tag": tag}, "bare/request")
            assert event.get_event(wait=20, tag=tag) is not None
            took["bare"].append(time.monotonic() - start)
            start = time.monotonic()
            bus.call("echo", {"a": 1})
            took["ours"].append(time.monotonic() - start)
    return took
