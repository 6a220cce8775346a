"""Time calls at the controller's socket: ``socket_trips.py SOCKET MINION TIMES`` prints seconds by
kind, as JSON. The kinds are taken in turn.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Callable
from typing import Any

from saltstorage.ipc import sockets


def main(path: str, minion: str, times: int) -> None:
    """Measure, and print the figures."""
    took: dict[str, list[float]] = {"kept": [], "own": [], "inventory": []}
    with contextlib.closing(sockets.connect(path, ())) as kept:
        inventory = {"op": "inventory", "args": {}, "caller": minion}

        def own() -> None:
            with contextlib.closing(sockets.connect(path, ())) as connection:
                connection.call("ping", {})

        calls: dict[str, Callable[[], Any]] = {
            "kept": lambda: kept.call("ping", {}),
            "own": own,
            "inventory": lambda: kept.call("execute", dict(inventory)),
        }
        for number in range(-5, times):
            for kind, call in calls.items():
                start = time.perf_counter()
                call()
                if number >= 0:
                    took[kind].append(time.perf_counter() - start)
    print(json.dumps(took))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
