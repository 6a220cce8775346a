"""Measure speed and memory beside bare Salt, cinderlib and os-brick, in one run: ``make bench``,
or ``python tests/bench --help``.

Real daemons, real drivers and real devices, in one temporary folder and on free ports; at the end
nothing is left of them. Compared commands are measured in turn, so other work of the machine weighs
on both. Nothing fails for being slow: each target is marked as met or missed.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import at_size
import measures
from bench_cluster import HERE, Cluster

import leftovers  # isort: skip  # of the demo, whose folder bench_cluster puts on the path

PARTS = {
    "bus": "(a) a request's round trip, and Salt's bare one",
    "life": "(b) the life of volumes through states, and with bare cinderlib and os-brick",
    "breakdown": "(b) where the time goes, from timers in the job and in the engine",
    "unchanged": "(c) the second, unchanged state.apply",
    "memory": "(d) memory of engine and controller with one backend",
    "runner": "(e) the runner started cold, and the warm engine",
    "socket": "(g) the way through the controller's socket",
    "flood": "(h) a flood on the bus, and the controller",
    "size": "(f) the same reads with catalogs of other sizes (number of volumes)",
}


class Stopped(BaseException):
    """The user or the system wants the benchmark to end."""


def stop(signum: int, _frame: object) -> None:
    """Turn a signal into an exception, so that the clean-up runs."""
    raise Stopped(signal.Signals(signum).name)


def arguments() -> argparse.Namespace:
    """Return the command line's options."""
    parser = argparse.ArgumentParser(prog="tests/bench", description=__doc__.split("\n\n")[0])
    parser.add_argument("--json", type=Path, default=HERE.parents[1] / "build" / "bench.json", help="file for the figures (%(default)s)")
    parser.add_argument("--only", choices=[*PARTS], nargs="+", default=[*PARTS], help="measure only these parts")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of whole commands (%(default)s)")
    parser.add_argument("--trips", type=int, default=100, help="round trips of each kind (%(default)s)")
    parser.add_argument("--volumes", type=int, default=20, help="volumes of the life cycle (%(default)s)")
    parser.add_argument("--events", type=int, default=5000, help="events of the flood (%(default)s)")
    parser.add_argument("--counts", type=int, nargs="+", default=[1, 20, 100], help="volumes of the unchanged runs (%(default)s)")
    parser.add_argument(
        "--sizes",
        type=int,
        nargs="+",
        default=[1000, 10_000, 100_000],
        help="volumes of the catalogs, the first to compare with (%(default)s)",
    )
    parser.add_argument("--turns", type=int, default=30, help="rounds with the catalogs (%(default)s)")
    return parser.parse_args()


class Bench:
    """One run of the benchmark.

    :param options: the command line's.
    :param root: folder for everything.
    """

    def __init__(self, options: argparse.Namespace, root: Path) -> None:
        self.options = options
        self.root = root
        self.clusters: list[Cluster] = []
        self.found: dict[str, measures.Found] = {}

    def run(self) -> dict[str, Any]:
        """Measure, print, and return all figures."""
        options = self.options
        environment = measures.environment()
        print("  ".join(f"{key}={value}" for key, value in environment.items()), flush=True)
        if "size" in options.only:
            self._show("size", at_size.measure(self.root / "sizes", options.sizes, options.turns))
        if set(options.only) - {"breakdown", "size"}:
            self._plain(self._start("plain"))
        if "breakdown" in options.only:
            self._stop()
            self._show("breakdown", measures.breakdown(self._start("timed", timed=True), options.volumes))
        targets = [target for found in self.found.values() for target in found.targets]
        print("\nTargets")
        for target in targets:
            print(f"  {target}")
        return {
            "environment": environment,
            "settings": {key: str(value) if isinstance(value, Path) else value for key, value in vars(options).items()},
            "figures": {part: found.data for part, found in self.found.items()},
            "targets": [target.to_wire() for target in targets],
        }

    def sessions(self) -> list[int]:
        """Return the sessions of all processes that were started."""
        return [session for cluster in self.clusters for session in cluster.sessions]

    def _plain(self, cluster: Cluster) -> None:
        options = self.options
        memory = {"backend loaded, nothing asked yet": measures.memory(cluster)}
        if "bus" in options.only:
            self._show("bus", measures.bus(cluster, options.trips))
        if "life" in options.only:
            self._show("life", measures.life_cycle(cluster, options.rounds, options.volumes))
        if "runner" in options.only:
            self._show("runner", measures.runner(cluster, options.rounds))
        if "socket" in options.only:
            self._show("socket", measures.socket_trips(cluster, 3 * options.trips))
        if "flood" in options.only:
            self._show("flood", measures.flood(cluster, 3 * options.trips, options.events))
        if "unchanged" in options.only:
            self._show("unchanged", measures.unchanged(cluster, options.counts, options.rounds))
        memory["after all that was measured"] = measures.memory(cluster)
        if "memory" in options.only:
            self._show("memory", measures.engine_memory(memory))

    def _show(self, part: str, found: measures.Found) -> None:
        self.found[part] = found
        print(f"\n{PARTS[part]}", *found.lines, sep="\n", flush=True)

    def _start(self, name: str, *, timed: bool = False) -> Cluster:
        cluster = Cluster(self.root / name, timed=timed)
        self.clusters.append(cluster)
        cluster.start()
        return cluster

    def _stop(self) -> None:
        for cluster in self.clusters:
            leftovers.clean(cluster.root, cluster.sessions)


def main() -> int:
    """Run the benchmark and clean up; return the exit code."""
    options = arguments()
    if os.geteuid() != 0:
        print("the benchmark attaches and mounts block devices, so it needs root")
        return 1
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    started = time.monotonic()
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, stop)
    # Short, since the path of a Unix socket ends at 107 bytes.
    root = Path(tempfile.mkdtemp(prefix="sb-", dir="/tmp"))
    bench = Bench(options, root)
    problem = ""
    try:
        figures = bench.run()
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(figures, indent=2) + "\n")
        print(f"\n{options.json} has all figures.")
    except (RuntimeError, subprocess.CalledProcessError) as error:
        problem = f"Failed: {error}"
    except Stopped as error:
        problem = f"Stopped by {error}"
    finally:
        # A second Ctrl-C must not leave half of it behind.
        for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(signum, signal.SIG_IGN)
        left = leftovers.clean(root, bench.sessions())
        shutil.rmtree(root, ignore_errors=not left)
        left += [str(root)] if root.exists() else []
    if left:
        problem += f"\nLeft behind: {', '.join(left)}"
    print(problem.strip() or f"Nothing is left behind ({time.monotonic() - started:.0f} s).")
    return 1 if problem else 0


if __name__ == "__main__":
    sys.exit(main())
