"""The storage environment by its state, with the formula's own lock file, from the package index
that pip is configured for.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.root, pytest.mark.slow]


def test_a_consumer_gets_os_brick_and_no_cinder(loaded: Any, tmp_path: Path) -> None:
    folder = tmp_path / "opt/salt-storage"
    folder.parent.mkdir()

    def apply(function: str, **given: Any) -> dict[str, Any]:
        found: dict[str, Any] = loaded["states"][f"storage_environment.{function}"](name=str(folder), **given)
        return found

    assert loaded["modules"]["storage_environment.needed"](str(folder)) == "there is none yet"
    assert not folder.exists()
    built = apply("present")
    assert built["result"] is True, built
    assert built["changes"]
    again = apply("present")
    assert (again["result"], again["changes"]) == (True, {}), again

    python = str(folder / "bin/python")
    names = ["os_brick", "cinder", "salt", "sqlalchemy"]
    code = f"import importlib.util as u, json; print(json.dumps([name for name in {names} if u.find_spec(name)]))"
    there = subprocess.run([python, "-I", "-c", code], capture_output=True, text=True, check=True).stdout
    assert json.loads(there) == ["os_brick"]
    boot = subprocess.run([python, "-I", "-m", "saltstorage.consumer.boot", "--help"], capture_output=True, text=True, check=False)
    assert boot.returncode == 0, boot.stderr

    removed = apply("absent")
    assert removed["result"] is True, removed
    assert not folder.is_symlink()
    assert apply("absent")["changes"] == {}
