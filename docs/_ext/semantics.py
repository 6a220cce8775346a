"""The page of required behaviours: the rows of ``docs/semantics.toml``, each with its tests.

A test proves a row when the row's number is in its name (``test_c5_c12_…``) or in its docstring
("Rows C5 and C12: …"). A row without a test must say in ``open`` why it has none. Otherwise, and
when a test names a row that does not exist, the build of the documentation fails.
"""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sphinx.errors import ExtensionError
from sphinx.util.docutils import SphinxDirective

if TYPE_CHECKING:
    from docutils.nodes import Node
    from sphinx.application import Sphinx

_IN_NAME = re.compile(r"(?<=_)[a-z]\d{1,2}(?=_|$)")
_IN_TEXT = re.compile(r"\b[A-Z]\d{1,2}\b")


@dataclass(frozen=True, kw_only=True)
class Row:
    """One required behaviour.

    :ivar number: such as ``P4``.
    :ivar rule: the case.
    :ivar required: the behaviour in that case.
    :ivar open: the part of it that no test shows yet, and why.
    """

    number: str
    rule: str
    required: str
    open: str = ""


@dataclass(frozen=True, kw_only=True)
class Section:
    """The rows of one state, with text before and after them."""

    title: str
    rows: Sequence[Row]
    start: str = ""
    end: str = ""


def load(path: Path) -> list[Section]:
    """Return the sections of a file such as ``docs/semantics.toml``."""
    sections = []
    for given in tomllib.loads(path.read_text())["section"]:
        rows = [Row(number=number, **row) for number, row in given.pop("row").items()]
        sections.append(Section(rows=rows, **given))
    return sections


def numbers(function: ast.FunctionDef | ast.AsyncFunctionDef, letters: frozenset[str]) -> set[str]:
    """Return the numbers that a test names.

    :param letters: the first letters that numbers have; ``W3`` is none where there are no rows W.
    """
    found = {match.upper() for match in _IN_NAME.findall(function.name)}
    found.update(_IN_TEXT.findall(ast.get_docstring(function) or ""))
    return {number for number in found if number[0] in letters}


def tests(folder: Path) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Yield each test below a folder, with the name of its file, which begins with that of the
    folder.
    """
    for path in sorted(folder.rglob("test_*.py")):
        name = path.relative_to(folder.parent).as_posix()
        for node in ast.walk(ast.parse(path.read_text(), name)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
                yield name, node


def proofs(sections: Sequence[Section], folder: Path) -> dict[str, list[str]]:
    """Return the tests of each row, as ``tests/unit/test_x.py::test_y``.

    :raises ExtensionError: a row has neither tests nor a reason for that, or a test names a row
        that is not there.
    """
    rows = {row.number: row for section in sections for row in section.rows}
    letters = frozenset(number[0] for number in rows)
    found: dict[str, list[str]] = {number: [] for number in rows}
    wrong = []
    for file, function in tests(folder):
        for number in sorted(numbers(function, letters)):
            if number in found:
                found[number].append(f"{file}::{function.name}")
            else:
                wrong.append(f"{file}::{function.name} names row {number}, which is not there")
    wrong += [f"row {number} has no test" for number, row in rows.items() if not found[number] and not row.open]
    if wrong:
        raise ExtensionError("the table of required behaviours and the tests do not fit:\n  " + "\n  ".join(wrong))
    return found


def render(sections: Sequence[Section], found: Mapping[str, Sequence[str]]) -> list[str]:
    """Return the page's lines of RST."""
    lines: list[str] = []
    for section in sections:
        lines += [section.title, "-" * len(section.title), "", *section.start.splitlines(), ""]
        for row in section.rows:
            lines += [f".. _row-{row.number.lower()}:", "", f"**{row.number}** {row.rule}"]
            lines += [f"   {line}" for line in row.required.splitlines()] + [""]
            if row.open:
                lines += [f"   *Not shown yet:* {row.open}.", ""]
            by_file: dict[str, list[str]] = {}
            for test in found[row.number]:
                file, _, name = test.partition("::")
                by_file.setdefault(file, []).append(f"``{name}``")
            lines += [f"   * ``{file}``: {', '.join(names)}" for file, names in by_file.items()] + [""]
        lines += [*section.end.splitlines(), ""]
    return lines


class Semantics(SphinxDirective):
    """``.. semantics::`` puts the sections in its place."""

    def run(self) -> list[Node]:
        """Return them; called by Sphinx."""
        source = Path(self.env.srcdir) / "semantics.toml"
        # Also tests that are not there yet count, so the page is read at each build.
        self.env.note_reread()
        sections = load(source)
        lines = render(sections, proofs(sections, Path(self.env.srcdir).parent / "tests"))
        return self.parse_text_to_nodes("\n".join(lines), allow_section_headings=True)


def setup(app: Sphinx) -> dict[str, bool]:
    """Add the directive; called by Sphinx."""
    app.add_directive("semantics", Semantics)
    return {"parallel_read_safe": True}
