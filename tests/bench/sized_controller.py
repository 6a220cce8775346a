"""One controller over a catalog of a given size, in a process of its own; ``at_size.py`` starts
one a size and measures them in turn.

``python sized_controller.py prepare FOLDER COUNT`` makes the catalog. With ``serve`` it starts
and serves for a while, prints a line of JSON about its memory, another for each line that it
reads, and ends at the end of its input.

It has a backend with the file driver, and a minion ``db1`` with ten connected volumes. The rest
of the catalog, written straight into its tables, belongs to ``fixed1`` (always 100) and to 100
other minions. Those volumes are connected, and on another array, which this controller has no
driver for.
"""

from __future__ import annotations

import json
import random
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(CHECKOUT), str(CHECKOUT / "_utils")]

from saltstorage.bus.pool import FairPool  # noqa: E402
from saltstorage.controller.catalog.listing import Filter, find  # noqa: E402
from saltstorage.controller.service import Service  # noqa: E402
from saltstorage.flow.flow import Flow  # noqa: E402
from saltstorage.plans import skeleton  # noqa: E402
from saltstorage.plans.connected import connected  # noqa: E402
from saltstorage.plans.disconnected import disconnected  # noqa: E402
from saltstorage.plans.request import Request  # noqa: E402
from saltstorage.plans.run import Run  # noqa: E402
from saltstorage.spec import VolumeSpec  # noqa: E402
from tests import inprocess  # noqa: E402
from tests.manyvolumes import fill  # noqa: E402

OWN, FIXED, MINIONS = 10, 100, 100
WORKERS = 8


def options(folder: Path) -> dict[str, Any]:
    """Return Salt's options of a masterless minion in ``folder``."""
    return {
        "id": "db1",
        "file_client": "local",
        "storage": {
            "state_dir": str(folder / "controller"),
            "metadata_database": f"sqlite:///{folder}/controller/cinderlib.sqlite",
            "backends": {
                "local": {
                    "volume_driver": "saltstorage.drivers.file.FileDriver",
                    "file_driver_path": str(folder / "volumes"),
                }
            },
            "consumer": {
                "state_dir": str(folder / "state"),
                "device_dir": str(folder / "dev"),
                "fstab": str(folder / "fstab"),
                "lock_path": str(folder / "brick"),
            },
        },
    }


class Minion:
    """``db1``, and the controller in this process."""

    def __init__(self, folder: Path) -> None:
        self.opts = options(folder)
        self.context: dict[str, Any] = {}
        self.runs = 0

    def run(self, function: str) -> list[dict[str, Any]]:
        """Run one state for each volume of the minion, and return their results."""
        self.runs += 1
        flow = Flow(self.opts, self.context, str(self.runs))

        def plan(name: str) -> Callable[[], Any]:
            if function == "disconnected":
                return lambda: disconnected(flow, name, None, False)
            return lambda: connected(flow, Run(), Request(flow, name, None, False, wanted=VolumeSpec(size=1)))

        names = [f"own{number}" for number in range(OWN)]
        results = [skeleton.run(name, False, plan(name), {}, lambda name: None) for name in names]
        for result in results:
            if not result["result"]:
                raise RuntimeError(result["comment"])
        return results

    @property
    def service(self) -> Service:
        """The controller."""
        Flow(self.opts, self.context).inventory()
        service: Service = self.context[inprocess.KEY]
        return service


def prepare(folder: Path, count: int) -> None:
    """Make a catalog with ``count`` volumes."""
    minion = Minion(folder)
    minion.run("connected")
    left = count - OWN - FIXED
    fill(minion.service.catalog, "fixed1", FIXED, backend="array")
    for number in range(MINIONS):
        share = left * (number + 1) // MINIONS - left * number // MINIONS
        fill(minion.service.catalog, f"minion{number:02}", share, backend="array", snapshots=1)
    minion.service.close()


def serve(folder: Path, count: int) -> None:
    """Start the controller, tell its memory after it has served, then measure on request."""
    service = Service(options(folder))
    service.start()
    for thread in threading.enumerate():
        # That thread settles half-done work and restores exports.
        if thread.name == "storage-local":
            thread.join()
    started = memory()
    look_ups, pool = names(service), FairPool(WORKERS, 10_000)
    for number in range(2000):
        pool.submit(str(number % WORKERS), lambda number=number: look_up(service, look_ups[number % len(look_ups)]))  # type: ignore[misc]
    for number in range(400):
        pool.submit(str(number % WORKERS), lambda: inventory(service))
        pool.submit(str(number % WORKERS), lambda: list_one(service))
    if not pool.close(600, drop=False):
        raise RuntimeError("the look-ups did not end")
    print(json.dumps({"volumes": count, "started": started, "served": memory()}), flush=True)
    minion = Minion(folder)
    for _ in sys.stdin:
        kinds: list[tuple[str, int, Callable[[int], Any]]] = [
            ("look_up", 300, lambda n: look_up(service, look_ups[n])),
            ("list", 10, lambda _: list_one(service)),
            ("inventory", 10, lambda _: inventory(service)),
            ("run", 1, lambda _: run_without_changes(minion)),
        ]
        took = {}
        for kind, times, call in kinds:
            start = time.perf_counter()
            for number in range(times):
                call(number)
            took[kind] = (time.perf_counter() - start) / times
        print(json.dumps(took), flush=True)
    service.close()
    minion.run("disconnected")
    minion.service.close()


def names(service: Service) -> list[tuple[str, str]]:
    """Return some identities from all over the catalog, the same at each call."""
    chosen = random.Random(1)
    found = []
    while len(found) < 500:
        owner = f"minion{chosen.randrange(MINIONS):02}"
        last, _gib = service.catalog.usage(owner)
        found.append((owner, f"v{chosen.randrange(last):05}"))
    return found


def look_up(service: Service, identity: tuple[str, str]) -> None:
    """Look for one volume by owner and name."""
    if service.volume(*identity).name != identity[1]:
        raise RuntimeError(f"another volume than {identity} was found")


def list_one(service: Service) -> None:
    """List the volumes of one minion with the hosts that they are connected to."""
    if len(find(service.catalog, Filter(owner="fixed1"))) != FIXED:
        raise RuntimeError("not all were listed")


def inventory(service: Service) -> None:
    """Send the request of a run of states that finds nothing to change."""
    found = service.execute("inventory", {}, "fixed1")
    if len(found["volumes"]) != FIXED or found["more"] is not None:
        raise RuntimeError("not all came")


def run_without_changes(minion: Minion) -> None:
    """Run states that find nothing to change."""
    if any(result["changes"] for result in minion.run("connected")):
        raise RuntimeError("something was changed")


def memory() -> dict[str, float]:
    """Return the resident memory of this process now, and at most so far, MB."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return {key: round(int(lines[name].split()[0]) / 1024, 1) for key, name in (("now", "VmRSS"), ("most", "VmHWM"))}


if __name__ == "__main__":
    {"prepare": prepare, "serve": serve}[sys.argv[1]](Path(sys.argv[2]), int(sys.argv[3]))
