"""
Functions that the benchmark has a minion run, in one long-lived job each.
"""

import os
import time

import benchtimers
import salt.utils.event

from saltstorage.bus.client import BusClient
from saltstorage.consumer.connectors import children
from saltstorage.consumer.connectors.remote import Remote
from saltstorage.consumer.host.config import ConsumerConfig

__virtualname__ = "bench"

ANSWER_TIMEOUT = 30


def __virtual__():
    return __virtualname__


def trips(times, warm_up=5):
    """
    Time round trips in turn: the project's, Salt's bare one, and Salt's bare one answered over a
    channel that is kept.

    Each round takes them in another order. Returns seconds by kind, the rounds in order.
    """
    with salt.utils.event.get_event("minion", sock_dir=__opts__["sock_dir"], opts=__opts__, listen=True) as event:
        bus = BusClient(__opts__, context=__context__, answer_timeout=ConsumerConfig.from_opts(__opts__).answer_timeout)
        kinds = [
            ("storage", lambda: bus.call("inventory", {})),
            ("bare", lambda: _bare_trip(event, "new")),
            ("bare_kept_channel", lambda: _bare_trip(event, "kept")),
        ]
        took = {kind: [] for kind, _ in kinds}
        for number in range(-warm_up, times):
            first = number % len(kinds)
            for kind, trip in kinds[first:] + kinds[:first]:
                seconds = _timed(trip)
                if number >= 0:
                    took[kind].append(seconds)
    return took


def operations(times):
    """
    Time what the runner is compared with, over the bus to the warm engine: create, inventory,
    delete.

    Returns seconds by operation.
    """
    bus = BusClient(__opts__, context=__context__, answer_timeout=ConsumerConfig.from_opts(__opts__).answer_timeout)
    took = {"create": [], "inventory": [], "delete": []}
    for number in range(times):
        name = f"warm-{number}"
        took["create"].append(_timed(lambda name=name: bus.call("create", {"name": name, "size": 1})))
        took["inventory"].append(_timed(lambda: bus.call("inventory", {})))
        took["delete"].append(_timed(lambda name=name: bus.call("delete", {"name": name})))
    return took


def apply(sls, timers=None):
    """
    Apply ``sls`` with os-brick's process started before; with ``timers``, a path, write there what
    took how long.

    Returns the state results, ``import_seconds`` and ``apply_seconds``.
    """
    if timers:
        benchtimers.install_consumer(timers)
    imported = _timed(lambda: Remote(ConsumerConfig.from_opts(__opts__)).connector_properties())
    found = []
    applied = _timed(lambda: found.append(__salt__["state.apply"](sls)))
    benchtimers.flush()
    return {"states": found[0], "import_seconds": imported, "apply_seconds": applied}


def children_of(sls):
    """
    Apply ``sls`` and count the processes for os-brick that it starts.

    Returns the state results as ``states``, and their number as ``children``.
    """
    started = []
    real = children._Brick

    class Counted(real):
        def __init__(self, *args, **kwargs):
            started.append(1)
            super().__init__(*args, **kwargs)

    children._Brick = Counted
    try:
        states = __salt__["state.apply"](sls)
    finally:
        children._Brick = real
    return {"states": states, "children": len(started)}


def work(until):
    """
    Create and delete a volume again and again, until there is no file ``until``.

    Returns how many there were.
    """
    bus = BusClient(__opts__, context=__context__, answer_timeout=ConsumerConfig.from_opts(__opts__).answer_timeout)
    done = 0
    while os.path.exists(until):
        bus.call("create", {"name": "worked", "size": 1})
        bus.call("delete", {"name": "worked"})
        done += 1
    return done


def flood(events):
    """
    Send events that are no requests to the storage engine. Returns the seconds that it took.
    """
    with salt.utils.event.get_event("minion", sock_dir=__opts__["sock_dir"], opts=__opts__, listen=False) as event:
        return _timed(
            lambda: [event.fire_master({"no": "request", "x": number}, f"storage/request/{number:032x}") for number in range(events)]
        )


def _bare_trip(event, channel):
    tag = f"bench/bare/reply/{time.time_ns()}"
    event.fire_master({"minion": __opts__["id"], "tag": tag, "channel": channel}, "bench/bare/request")
    if event.get_event(wait=ANSWER_TIMEOUT, tag=tag) is None:
        raise TimeoutError("the bench's bare engine does not answer")


def _timed(function):
    start = time.perf_counter()
    function()
    return time.perf_counter() - start
