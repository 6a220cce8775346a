"""Reasons for which a test may skip. As root they are facts of the kernel: the packages that
tests need are installed by ``make test``.

``conftest.py`` fails a test that skips for another reason.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from saltstorage.consumer.host import commands

#: Package, users and programs of each line; see the file.
PACKAGES = Path(__file__).parent.parent / "tools" / "packages.txt"

ROOT = "needs root"
#: Whether root is not to be used, even where the tests have it: ``make check`` is the same for
#: everybody.
quick = False
NO_MAPPER = "this kernel has no device mapper; the lab's guests have"
MAPPER = "this kernel has a device mapper, and the test needs one without"
NO_LOOP = "this kernel has no loop devices"
NO_SWAP = "this kernel allows no swap on loop devices"
LIO = "this kernel has LIO, and the test needs one without"
_KERNEL = re.compile("|".join([*map(re.escape, (NO_MAPPER, MAPPER, NO_LOOP, NO_SWAP, LIO)), r"this kernel has no file system \w+"]))
#: Limits of a backend, or options that it does not have: they depend on the backend that the suite
#: is run against.
_BACKEND = re.compile(r"the backend .*|this suite .*|the driver .*")
#: The lab needs namespaces of its own.
LAB = "runs by make lab, in namespaces of its own"


def objection(nodeid: str, reason: str) -> str:
    """Return why a test may not skip for a reason; empty when it may.

    :param nodeid: the test, as pytest names it.
    """
    allowed = (
        bool(_KERNEL.fullmatch(reason))
        or ((quick or bool(os.geteuid())) and reason.startswith(ROOT))
        or (nodeid.startswith("tests/conformance/") and bool(_BACKEND.fullmatch(reason)))
        or (nodeid.startswith("tests/lab/") and reason == LAB)
    )
    return "" if allowed else f"skipped, which only tests/needs.py gives reasons for: {reason}"


def root() -> None:
    """Skip a test that only root can run."""
    if quick or os.geteuid():
        pytest.skip(ROOT)


def programs(*names: str, path: str = commands.SEARCH) -> None:
    """Fail a test whose programs are missing, and name their packages; skip it where nothing can
    be installed, which needs root.

    :param path: the folders to search.
    """
    missing = [name for name in names if shutil.which(name, path=path) is None]
    if not missing:
        return
    text = "; ".join(f"{name} is missing, install the package {package_of(name)}" for name in missing)
    if os.geteuid():
        pytest.skip(f"{ROOT} to install packages: {text}")
    pytest.fail(f"{text} (tools/packages.sh --tests)")


def loop_devices() -> None:
    """Skip a test that attaches loop devices where the kernel has none."""
    if not os.path.exists("/dev/loop-control"):
        pytest.skip(NO_LOOP)


def filesystem(fstype: str) -> None:
    """Skip a test of a file system that the kernel does not know; fail it where only the program
    that makes it is missing.
    """
    programs(f"mkfs.{fstype}")
    if not has_filesystem(fstype):
        pytest.skip(f"this kernel has no file system {fstype}")


def has_filesystem(fstype: str) -> bool:
    """Return whether the kernel knows a file system; its module is loaded where there is one."""
    _load(f"fs-{fstype}")
    return fstype in Path("/proc/filesystems").read_text().split()


def has_mapper(*modules: str) -> bool:
    """Return whether the kernel has a device mapper; the modules are loaded where there
    are any.
    """
    _load(*modules)
    return "device-mapper" in Path("/proc/misc").read_text()


def _load(*modules: str) -> None:
    modprobe = shutil.which("modprobe", path=commands.SEARCH)
    if modprobe is not None:
        subprocess.run([modprobe, "--quiet", "--all", *modules], check=False)


def packages(user: str = "") -> dict[str, list[str]]:
    """Return the programs of each package in the table.

    :param user: ``demo``, ``tests``, ``lab`` or ``fresh``; empty for all.
    """
    rows = [line.split() for line in PACKAGES.read_text().splitlines() if not line.startswith("#")]
    return {package: programs for package, users, *programs in rows if not user or user in users.split(",")}


def package_of(program: str) -> str:
    """Return the package that has a program."""
    return next((package for package, names in packages().items() if program in names), "that has it")
