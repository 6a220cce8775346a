"""The table of verified operations, written by the runs of the lab that showed them.

``python -m tests.lab.verified`` adds the last run, with any scenarios, to
``build/lab/verified.json``, and writes ``build/lab/verified.rst``; with ``LAB_RECORD`` both are
those of the documentation. A row belongs to the last run that showed it.
"""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .guest import CHECKOUT

#: The results of each part of a run.
PARTS = CHECKOUT / "build" / "lab" / "parts"
#: Where the rows and the table of them are, without their suffixes; and those of the
#: documentation.
TABLE = CHECKOUT / "build" / "lab" / "verified"
DOCUMENTED = CHECKOUT / "docs" / "verified"
PYTHON_PACKAGES = ("salt", "cinder", "cinderlib", "os-brick")
DEBIAN_PACKAGES = (
    "tgt",
    "open-iscsi",
    "multipath-tools",
    "nvme-cli",
    "e2fsprogs",
    "xfsprogs",
    "user-mode-linux",
    "qemu-system-x86",
    "lvm2",
    "nfs-kernel-server",
    "ceph-osd",
)

HEAD = """\
What the lab has verified
=========================

Written by ``make lab RECORD=yes``; do not edit. Each row ran for real: kernels, protocols and, where it does not say masterless, Salt
daemons. What is not in this table was not shown by the lab. The last column is the run that showed it; the runs are below.

This is the first of three classes of evidence. In the second, a driver's own code runs in the conformance suite against a simulator of its
array: no data is stored, and nothing of the array itself is shown. In the third, a driver's code can be imported, and no more was run here.
:doc:`reference/drivers` names the class of each driver and counts them.

.. list-table::
   :header-rows: 1
   :widths: 20 20 45 10 5

   * - Backend
     - Protocol
     - Operation
     - Result
     - Run
"""


@dataclass
class Verified:
    """The rows of one run.

    :ivar kernels: releases of the guests' kernels.
    """

    started: float = field(default_factory=time.time)
    kernels: set[str] = field(default_factory=set)
    rows: list[tuple[str, str, str, str]] = field(default_factory=list)

    @contextmanager
    def __call__(self, backend: str, protocol: str, operation: str) -> Iterator[None]:
        """Add a row with the result of the block within.

        :param backend: driver and target, such as ``file, tgt``.
        :param protocol: such as ``iSCSI, CHAP, two paths``.
        :param operation: the operation, as a user would name it.
        """
        result = "failed"
        try:
            yield
            result = "passed"
        finally:
            self.rows.append((backend, protocol, operation, result))

    def save(self, path: Path) -> None:
        """Keep the rows for :func:`write`."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(
            json.dumps(
                {"commit": _commit(), "started": self.started, "ended": time.time(), "kernels": sorted(self.kernels), "rows": self.rows},
                indent=1,
            )
        )


def add(parts: list[Path], table: dict[str, Any]) -> dict[str, Any]:
    """Return a table with the run that has left these parts; a run that has no rows any more is
    not in it.

    :param table: ``runs``, a list of mappings with ``commit``, ``date``, ``seconds``,
        ``machine``, ``kernels`` and ``versions``; and ``rows``, a list of
        ``[backend, protocol, operation, result, index of the run]``.
    """
    found = [json.loads(path.read_text()) for path in parts]
    started = min(part["started"] for part in found)
    run = {
        "commit": ", ".join(sorted({part["commit"] for part in found})),
        "date": datetime.datetime.fromtimestamp(started, datetime.UTC).strftime("%Y-%m-%d %H:%M"),
        "seconds": round(max(part["ended"] for part in found) - started),
        "machine": f"{os.cpu_count()} processors, KVM not used",
        "kernels": sorted({kernel for part in found for kernel in part["kernels"]}),
        "versions": _versions(),
    }
    runs = [*table["runs"], run]
    rows = {tuple(row[:3]): row for row in table["rows"]}
    rows.update({tuple(row[:3]): [*row, len(runs) - 1] for part in found for row in part["rows"]})
    used = sorted({row[4] for row in rows.values()})
    return {
        "runs": [runs[n] for n in used],
        # In the order in which they were shown, below their backends.
        "rows": sorted(([*row[:4], used.index(row[4])] for row in rows.values()), key=lambda row: row[:2]),
    }


def text(table: dict[str, Any]) -> str:
    """Return a table as a page of the documentation."""
    lines = []
    for *cells, run in table["rows"]:
        lines += [f"   {'*' if n == 0 else ' '} - {cell}" for n, cell in enumerate((*cells, run + 1))]
    for number, run in enumerate(table["runs"], 1):
        title = f"Run {number}: {run['date']} UTC"
        lines += ["", title, "-" * len(title), ""]
        lines += [
            f":Commit: {run['commit']}",
            f":Took: {run['seconds']} s; {run['machine']}",
            f":Guest kernels: {', '.join(run['kernels'])}",
        ]
        lines += [f":Versions: {', '.join(run['versions'])}"]
    return HEAD + "\n".join(lines) + "\n"


def record(path: Path) -> None:
    """Add the last run to the table at a path, which goes without its suffix.

    :raises OSError: it cannot be written.
    """
    rows = path.with_suffix(".json")
    table = json.loads(rows.read_text()) if rows.exists() else {"runs": [], "rows": []}
    table = add(sorted(PARTS.glob("*.json")), table)
    rows.write_text(json.dumps(table, indent=1) + "\n")
    path.with_suffix(".rst").write_text(text(table))


def _commit() -> str:
    """Return the commit that runs; it ends in ``-dirty`` when the checkout has other changes."""
    command = ["git", "-C", str(CHECKOUT), "-c", "safe.directory=*", "describe", "--always", "--dirty"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def _versions() -> list[str]:
    found = [f"{name} {importlib.metadata.version(name)}" for name in PYTHON_PACKAGES]
    for name in DEBIAN_PACKAGES:
        done = subprocess.run(["dpkg-query", "-W", "-f=${Version}", name], capture_output=True, text=True, check=False)
        if done.returncode == 0 and done.stdout:
            found.append(f"{name} {done.stdout}")
    return found


if __name__ == "__main__":
    record(DOCUMENTED if os.environ.get("LAB_RECORD") else TABLE)
