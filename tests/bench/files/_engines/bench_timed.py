"""
The project's engine with timers around its parts, for the breakdown.
"""

import benchtimers

from saltstorage.bus import engine

__virtualname__ = "bench_timed"


def __virtual__():
    return __virtualname__


def start():
    """
    Serve as the engine ``storage`` does, and write to the file that ``bench:timers`` names what
    took how long.
    """
    benchtimers.install_engine(__opts__["bench"]["timers"])
    engine.run(__opts__, _make_service)


def _make_service():
    from saltstorage.link.remote import RemoteService

    return RemoteService(__opts__)
