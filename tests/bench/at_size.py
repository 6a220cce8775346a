"""Reads and memory stay the same as the catalog grows: one controller a size,
measured in turn.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from bench_cluster import HERE
from figures import HEADING, Target, line, ratio, spread
from measures import Found

KINDS = {
    "look_up": "look-up by owner and name",
    "list": "list of a minion's 100 volumes",
    "inventory": "inventory of a minion with 100 volumes",
    "run": "10 connected volumes, states without changes",
}
#: Most that a time, and the engine's memory, may be of those with the smallest catalog.
TIME, MEMORY = 1.5, 1.25


def measure(root: Path, sizes: list[int], turns: int) -> Found:
    """Measure reads with catalogs of several sizes in turn, and the memory of each controller.

    :param sizes: numbers of volumes; the others are compared with the first.
    """
    took: dict[int, dict[str, list[float]]] = {size: {kind: [] for kind in KINDS} for size in sizes}
    with contextlib.ExitStack() as stack:
        controllers = {}
        for size in sizes:
            (root / str(size)).mkdir(parents=True)
            subprocess.run(_command("prepare", root, size), check=True, cwd=root, stdout=sys.stderr)
            controllers[size] = stack.enter_context(_Controller(root, size))
        memory = {size: controllers[size].said for size in sizes}
        for turn in range(-1, turns):
            for size in sizes if turn % 2 else reversed(sizes):
                for kind, seconds in controllers[size].round().items():
                    # The first of each fills caches and imports.
                    if turn >= 0:
                        took[size][kind].append(seconds)
    return _found(sizes, took, memory)


class _Controller:
    """A controller in a process of its own."""

    def __init__(self, root: Path, size: int) -> None:
        self._process = subprocess.Popen(_command("serve", root, size), cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.said = self._read()

    def __enter__(self) -> _Controller:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()
        if self._process.returncode:
            raise RuntimeError(f"a controller ended with {self._process.returncode}")

    def round(self) -> dict[str, float]:
        """Have it measure once; return seconds by kind."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return self._read()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        for text in self._process.stdout:
            if text.startswith("{"):
                found: dict[str, Any] = json.loads(text)
                return found
        raise RuntimeError(f"a controller ended with {self._process.wait()}")


def _command(what: str, root: Path, size: int) -> list[str]:
    return [sys.executable, str(HERE / "sized_controller.py"), what, str(root / str(size)), str(size)]


def _found(sizes: list[int], took: dict[int, dict[str, list[float]]], memory: dict[int, dict[str, Any]]) -> Found:
    smallest = sizes[0]
    found = Found(data={"seconds": {}, "ratios": {}, "memory_mb": memory}, lines=[HEADING])
    for kind, label in KINDS.items():
        found.data["seconds"][kind] = {size: spread(took[size][kind], 6) for size in sizes}
        ratios = found.data["ratios"][kind] = {size: ratio(took[size][kind], took[smallest][kind]) for size in sizes[1:]}
        for size in sizes:
            found.lines.append(line(f"{label}; {size:,}", found.data["seconds"][kind][size], scale=1000, unit="ms"))
        for size, value in ratios.items():
            found.lines.append(f"    {size:,} to {smallest:,}: {value['of_medians']:.2f} of medians, {value['of_minima']:.2f} of minima")
            found.targets.append(Target(f"(f) {label}: {size:,} to {smallest:,}, medians", value["of_medians"], TIME))
    for size in sizes:
        served = memory[size]["served"]
        found.lines.append(f"  memory after serving, {size:,} in the catalog: {served['now']} MB, {served['most']} MB at most")
        found.data["ratios"][f"memory_{size}"] = round(served["most"] / memory[smallest]["served"]["most"], 3)
    largest = sizes[-1]
    found.targets.append(Target(f"(f) memory at most: {largest:,} to {smallest:,}", found.data["ratios"][f"memory_{largest}"], MEMORY))
    return found
