"""The table of what the lab has shown, written by the run that showed it.

``python -m tests.lab.verified`` makes it of what the parts of the last run have left: ``build/lab/verified.rst``, and after a run of all
scenarios, long ones included, the page of the documentation.
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

from .guest import CHECKOUT

#: What each part of a run has shown.
PARTS = CHECKOUT / "build" / "lab" / "parts"
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

Written by ``make lab LONG=yes``; do not edit. Each row ran for real: Salt daemons, kernels, protocols. What is not in this table was not
shown by the lab.

:Run: {date} UTC, {seconds:.0f} s, {machine}
:Guest kernels: {kernels}
:Versions: {versions}

.. list-table::
   :header-rows: 1
   :widths: 20 20 50 10

   * - Backend
     - Protocol
     - Operation
     - Result
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
        """Add a row with the result of what runs within.

        :param backend: driver and target, such as ``file, tgt``.
        :param protocol: such as ``iSCSI, CHAP, two paths``.
        :param operation: what is shown, as a user would say it.
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
            json.dumps({"started": self.started, "ended": time.time(), "kernels": sorted(self.kernels), "rows": self.rows}, indent=1)
        )


def write(parts: list[Path], paths: list[Path]) -> None:
    """Write the table of what all parts have shown.

    :param parts: what :meth:`Verified.save` has left.
    :param paths: files to write.
    """
    found = [json.loads(path.read_text()) for path in parts]
    started = min(part["started"] for part in found)
    text = HEAD.format(
        date=datetime.datetime.fromtimestamp(started, datetime.UTC).strftime("%Y-%m-%d %H:%M"),
        seconds=max(part["ended"] for part in found) - started,
        machine=f"{os.cpu_count()} processors, KVM not used",
        kernels=", ".join(sorted({kernel for part in found for kernel in part["kernels"]})) or "none",
        versions=", ".join(_versions()),
    )
    for part in found:
        for row in part["rows"]:
            text += "".join(f"   {'*' if n == 0 else ' '} - {cell}\n" for n, cell in enumerate(row))
    for path in paths:
        path.write_text(text)


def _versions() -> list[str]:
    found = [f"{name} {importlib.metadata.version(name)}" for name in PYTHON_PACKAGES]
    for name in DEBIAN_PACKAGES:
        done = subprocess.run(["dpkg-query", "-W", "-f=${Version}", name], capture_output=True, text=True, check=False)
        if done.returncode == 0 and done.stdout:
            found.append(f"{name} {done.stdout}")
    return found


if __name__ == "__main__":
    pages = [CHECKOUT / "build" / "lab" / "verified.rst"]
    if os.environ.get("LAB_LONG") and (PARTS / "storage.json").exists():
        pages.append(CHECKOUT / "docs" / "verified.rst")
    write(sorted(PARTS.glob("*.json")), pages)
