"""Lists and names in the documentation are those of the code."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

import pytest

from saltstorage.controller.admin.check import KINDS
from saltstorage.pillar.rendering import PROTOCOLS
from tests.conftest import CHECKOUT

DOCS = CHECKOUT / "docs"
#: Pages of others' words: decisions tell of their time.
PAGES = [CHECKOUT / "README.rst", CHECKOUT / "pillar.example", *(p for p in DOCS.rglob("*.rst") if "decisions" not in p.parts)]


def test_the_page_on_repair_lists_every_kind_of_finding() -> None:
    page = (DOCS / "how-to/repair.rst").read_text(encoding="utf-8")
    assert sorted(re.findall(r"^``(\w+)``  ", page, re.MULTILINE)) == sorted(KINDS)


def test_the_page_on_sls_lists_every_protocol() -> None:
    page = (DOCS / "reference/sls.rst").read_text(encoding="utf-8")
    [listed] = re.findall(r"The protocols are (.*?)\.", page, re.DOTALL)
    assert re.findall(r"``(\w+)``", listed) == list(PROTOCOLS)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(CHECKOUT)))
def test_every_dotted_path_leads_to_something(path: Path) -> None:
    """Modules of the project, and drivers of Cinder: readers copy these paths."""
    text = path.read_text(encoding="utf-8")
    named = set(re.findall(r"(?<![\w./-])(?:saltstorage|cinder\.volume)(?:\.\w+)+(?![\w*])", text))
    assert sorted(name for name in named if not exists(name)) == []


def exists(name: str) -> bool:
    """Return whether a dotted path names a module, or a name in one; nothing is imported, as
    Cinder binds its process.
    """
    first, *parts = name.split(".")
    place = Path(str(find_spec(first).origin)).parent  # type: ignore[union-attr]
    while parts and (place / parts[0]).is_dir():
        place /= parts.pop(0)
    file = place / f"{parts.pop(0)}.py" if parts and (place / f"{parts[0]}.py").is_file() else place / "__init__.py"
    # One of a class is looked up no further than the class.
    return not parts or bool(re.search(rf"^(?:class |def )?{parts[0]}\b|^from .* import .*\b{parts[0]}\b", file.read_text(), re.MULTILINE))
