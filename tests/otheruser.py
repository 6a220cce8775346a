"""A Python that every user of the machine can run, with the packages of the tests.

The Python of the tests may lie in root's own home.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

#: ``nobody``, and a group of the same number: owners of no file.
NOBODY = 65534


def make_python(folder: Path, *packages: Path) -> Path:
    """Make a virtual environment and return its Python.

    :param folder: where; each user can reach it.
    :param packages: packages that it has beside those of the tests, which each user can read.
    """
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    own = str(Path(sys.base_prefix, "bin", f"python{version}"))
    for base in (own, f"/usr/bin/python{version}"):
        if _runs(base):
            break
    else:
        pytest.fail(f"no Python {version} that another user can run; install it, as /usr/bin/python{version}")
    subprocess.run([base, "-m", "venv", "--without-pip", str(folder)], check=True, timeout=60)
    [found] = folder.glob("lib/python*/site-packages")
    for package in packages:
        (found / package.name).symlink_to(package)
    ours = [path for path in sys.path if path.endswith("site-packages")]
    (found / "packages-of-the-tests.pth").write_text("".join(f"{path}\n" for path in ours))
    return folder / "bin" / "python"


def _runs(python: str) -> bool:
    try:
        done = subprocess.run([python, "-I", "-c", "import json"], user=NOBODY, group=NOBODY, extra_groups=[], cwd="/", check=False)
    except OSError:
        return False
    return done.returncode == 0
