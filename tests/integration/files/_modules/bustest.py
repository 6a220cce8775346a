"""
Functions of the tests: call the controller from a minion, and send what no honest minion would.
"""

import hashlib
import os
import time

import salt.channel.client
import salt.utils.event

from saltstorage.bus.client import BusClient
from saltstorage.consumer.host.config import ConsumerConfig
from saltstorage.errors import StorageError


def call(op, args=None, limit=None, times=1):
    """Call an operation ``times`` times and return the last result, or the error as data, and how
    long each took.
    """
    bus = _client()
    took = []
    result = None
    for _ in range(times):
        start = time.monotonic()
        try:
            result = bus.call(op, args or {}, timeout=limit)
        except StorageError as exc:
            result = {"error": exc.to_wire()}
        took.append(time.monotonic() - start)
    return {"result": result, "seconds": took}


def secret_digest():
    """Return the digest of the secret that the operation ``secret`` returns; the secret itself
    must not be seen in the job.
    """
    data = _client().call("secret", {})
    return hashlib.sha256(data["auth_password"].encode()).hexdigest()


def forked():
    """Call in this process, in a child that inherits the context, and in this one again; return
    the callers.
    """
    bus = _client()
    found = [bus.call("echo", {})["caller"]]
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, _client().call("echo", {})["caller"].encode())
        os._exit(0)
    os.close(writing)
    found.append(os.read(reading, 100).decode())
    os.close(reading)
    os.waitpid(child, 0)
    found.append(bus.call("echo", {})["caller"])
    return found


def send(events, bare=True):
    """
    Send events to the master over a channel of one's own, as any minion can.

    events
        List of ``{"tag": …, "data": …}``.
    bare
        Use the list form, in which Salt delivers ``data`` with nothing around it, so with whatever
        ``id`` it says.
    """
    with salt.channel.client.ReqChannel.factory(__opts__) as channel:
        if bare:
            channel.send({"id": __opts__["id"], "cmd": "_minion_event", "events": events}, timeout=20, tries=1)
        else:
            for event in events:
                channel.send({"id": __opts__["id"], "cmd": "_minion_event", **event}, timeout=20, tries=1)
    return True


def flood(times):
    """Send garbage of all kinds ``times`` times under the tag of requests."""
    kinds = [{}, {"body": "MARKER"}, {"body": "TUFSS0VS", "sig": "TUFSS0VS"}, {"body": ["MARKER"], "sig": None}, {"data": {"body": 5}}]
    tags = ["storage/request/", "storage/request/MARKER", "storage/request/" + "0" * 32, "storage/request/\n\n"]
    events = [{"tag": tag, "data": kind} for tag in tags for kind in kinds]
    for _ in range(times):
        send(events)
    return len(events) * times


def _client():
    return BusClient(__opts__, context=__context__, answer_timeout=ConsumerConfig.from_opts(__opts__).answer_timeout)
