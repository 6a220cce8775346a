"""The examples in docstrings of the package run, and show what they say."""

from __future__ import annotations

import doctest
import importlib
import weakref
from pathlib import Path

import pytest

from tests.conftest import CHECKOUT

PACKAGE = CHECKOUT / "_utils" / "saltstorage"
FILES = sorted(file for file in PACKAGE.rglob("*.py") if ">>> " in file.read_text())
#: The examples here need a master, a mounted file system, or a process of their own.
SKIPPED = {"bus/client.py", "consumer/filesystems/freeze.py", "controller/cinder/bridge.py", "flow/flow.py"}


def module_name(file: Path) -> str:
    return ".".join(file.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")


@pytest.mark.parametrize("file", FILES, ids=[str(file.relative_to(PACKAGE)) for file in FILES])
def test_the_examples_of_a_module_run(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if file.is_relative_to(PACKAGE / "controller" / "cinder"):
        from saltstorage.controller.cinder import bridge

        bridge.load()
    module = importlib.import_module(module_name(file))
    for name, value in list(vars(module).items()):
        if type(value) in weakref.ProxyTypes:  # Salt left it in a test before, and nothing may look at a dead one
            monkeypatch.delattr(module, name)
    found = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE, verbose=False)
    assert found.failed == 0


def test_no_other_example_is_skipped() -> None:
    assert {str(file.relative_to(PACKAGE)) for file in FILES if "doctest: +SKIP" in file.read_text()} == SKIPPED
