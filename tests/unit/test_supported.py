"""The versions of Salt and Python that the package accepts, and the one line for all others."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import saltstorage
from tests.conftest import CHECKOUT

LOADER_FILES = sorted(path for kind in ("modules", "states", "runners", "engines") for path in (CHECKOUT / f"_{kind}").glob("*.py"))


@pytest.mark.parametrize(
    ("python", "salt"),
    [
        ((3, 11, 2), (3006, 27)),
        ((3, 11, 7), (3006, 30)),
        ((3, 14, 0), (3008, 0)),
        ((3, 14, 8), (3008, 5)),
        ((3, 15, 0), (3009, 0)),
        ((3, 13, 1), None),
    ],
)
def test_supported(python, salt):
    assert saltstorage._unsupported(python, salt) == ""


@pytest.mark.parametrize(
    ("python", "salt", "here"),
    [
        ((3, 11, 7), (3006, 26), "Salt 3006.26 with Python 3.11.7"),
        ((3, 11, 7), (3005, 5), "Salt 3005.5 with Python 3.11.7"),
        ((3, 11, 7), (3007, 16), "Salt 3007.16 with Python 3.11.7"),
        ((3, 10, 13), (3006, 30), "Salt 3006.30 with Python 3.10.13"),
        ((3, 9, 2), None, "Python 3.9.2"),
    ],
)
def test_one_line_for_others(python, salt, here):
    text = saltstorage._unsupported(python, salt)
    assert text.endswith(f"this is {here}")
    assert "\n" not in text


def test_the_package_refuses_to_load_beside_such_a_salt():
    code = "import sys, types; sys.modules['salt.version'] = types.SimpleNamespace(__version_info__=(3007, 16)); import saltstorage.model"
    done = subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": str(CHECKOUT / "_utils")}, capture_output=True, text=True)
    assert done.stderr.splitlines()[-1].startswith("ImportError: storage needs Salt 3006.27 or newer")


@pytest.mark.parametrize(
    "path", [CHECKOUT / "_utils/saltstorage/__init__.py", *LOADER_FILES], ids=lambda path: f"{path.parent.name}-{path.name}"
)
def test_an_old_python_reads_as_far_as_the_refusal(path: Path):
    ast.parse(path.read_text(), str(path), feature_version=(3, 8))


@pytest.mark.parametrize("path", LOADER_FILES, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_a_loader_file_imports_the_package_before_anything_of_it_can_fail(path: Path):
    """Only the standard library may stand before it. A file that imports nothing of the package
    runs in every version.
    """
    imports = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.Import | ast.ImportFrom)]
    names = [node.module if isinstance(node, ast.ImportFrom) else node.names[0].name for node in imports]
    ours = [name.split(".")[0] == "saltstorage" for name in names]
    before = names[: ours.index(True)] if True in ours else names
    assert {name.split(".")[0] for name in before} <= sys.stdlib_module_names
