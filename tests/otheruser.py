"""A Python that every user of the machine can run, with the packages of the tests.

The Python of the tests, and the checkout, may lie in root's own home.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

#: ``nobody``, and a group of the same number: owners of no file.
NOBODY = 65534


@contextlib.contextmanager
def python_for_all(folder: Path, *packages: Path) -> Iterator[Path]:
    """Make a virtual environment and yield its Python.

    :param folder: where; each user can reach it.
    :param packages: packages that are copied into it.
    """
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    own = str(Path(sys.base_prefix, "bin", f"python{version}"))
    for base in (own, f"/usr/bin/python{version}"):
        if _can(base, "-I", "-c", "import json"):
            break
    else:
        pytest.fail(f"no Python {version} that another user can run; install it, as /usr/bin/python{version}")
    subprocess.run([base, "-m", "venv", "--without-pip", str(folder)], check=True, timeout=60)
    [found] = folder.glob("lib/python*/site-packages")
    for package in packages:
        copy(package, found / package.name)
    with contextlib.ExitStack() as stack:
        ours = [stack.enter_context(_readable(Path(path))) for path in sys.path if path.endswith("site-packages")]
        (found / "packages-of-the-tests.pth").write_text("".join(f"{path}\n" for path in ours))
        yield folder / "bin" / "python"


def copy(source: Path, target: Path) -> None:
    """Copy a folder of the checkout for every user."""
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))


@contextlib.contextmanager
def _readable(folder: Path) -> Iterator[Path]:
    """Yield a path by which every user can read a large folder."""
    if _can("ls", str(folder)):
        yield folder
        return
    # Read-only: nothing that fails here can change what is there.
    place = Path(tempfile.mkdtemp(prefix="st-", dir="/tmp"))
    try:
        subprocess.run(["mount", "--bind", "-o", "ro", folder, place], check=True)
        try:
            yield place
        finally:
            subprocess.run(["umount", "--lazy", place], check=True)
    finally:
        place.rmdir()


def _can(*command: str) -> bool:
    """Tell whether a user without rights can run a command."""
    try:
        done = subprocess.run(command, user=NOBODY, group=NOBODY, extra_groups=[], cwd="/", capture_output=True, check=False)
    except OSError:
        return False
    return done.returncode == 0
