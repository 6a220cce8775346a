"""The count of subjects without a noun finds them in each kind of text."""

from __future__ import annotations

import doctest
import importlib.util
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="module")
def prose(checkout: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("prose", checkout / "tools/prose.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_its_examples_run(prose: ModuleType) -> None:
    assert doctest.testmod(prose).failed == 0


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("Whoever watches it loads it.", 1),
        ("The path is kept, and what uses it is named.", 1),
        ("The one that is in use stays.", 1),
        ("One that is empty is formatted.", 1),
        ("The host, who asked, knows what to do.", 0),
        ("Who may do so?", 0),
        ("The volume that was grown stays.", 0),
    ],
)
def test_a_subject_counts_when_it_is_no_noun(prose: ModuleType, text: str, count: int) -> None:
    assert len(list(prose.subjects(text))) == count


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("a.py", '"""Title.\n\nWhat is used stays.\n"""\n'),
        ("b.py", "x = 1  # what is used stays\n"),
        ("c.rst", "Title\n=====\n\nIt is so. What is used stays, as ``what`` says.\n\n.. code-block:: bash\n\n    # what is this\n"),
        ("d.toml", 'text = "What is used stays."\n'),
        ("e.sh", "true  # what is used stays\n"),
    ],
)
def test_texts_are_read_in_each_kind_of_file(prose: ModuleType, tmp_path: Path, name: str, source: str) -> None:
    (tmp_path / name).write_text(source)
    found = [line for line, text in prose.texts(tmp_path / name) for _ in prose.subjects(text)]
    assert len(found) == 1
