"""Count sentences without a noun for a subject: ``prose.py [--list] [PATH…]``.

"What has grown has not followed" makes a reader decode; "The device does not show the new size
yet" does not. The check reads docs, docstrings and comments, counts subjects that are *what*,
*who*, *that which* or *one that*, for each 10,000 words, and fails above the limit. It guards
against falling back and is no judge of prose: read each page aloud all the same.
"""

from __future__ import annotations

import argparse
import ast
import io
import re
import subprocess
import sys
import tokenize
import tomllib
from collections.abc import Iterator
from pathlib import Path

#: Subjects without a noun that a text may have, for each 10,000 words.
LIMIT = 3.0
#: Texts of others, and generated ones.
_LEFT_OUT = ("LICENSE", "requirements/", "docs/verified.json", "docs/verified.rst")

_SUBJECT = r"(?:what|whatever|who|whoever|whichever|that which)"
_AFTER = r"(?:and|but|or|so|since|while|because|if|unless|until|when|where|as|for|that|than|then|whether|before|after)"
_PATTERNS = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf"(?:^|[.!?:;]\s+|\(){_SUBJECT}\s+",  # a sentence, or a part of one, begins with it
        r",\s+(?:what|whatever|whoever|whichever|that which)\s",  # after a comma; ", who" follows its noun
        rf"(?:^|[\s(])(?:and|but|or|so|since|while|because|if|unless|until|as|than|then)\s+{_SUBJECT}\s+\w+",
        r"\b(?:the\s+)?one(?:s)?\s+that\b",
        r"(?:^|[.!?:;,]\s+)those\s+(?:that|who|which)\b",
    )
)
#: Objects, which are plain English: "says who and what", "decides if what …" is not among them.
_OBJECT = re.compile(
    r"\b(?:say|says|said|know|knows|tell|tells|show|shows|see|read|reads|name|names|which|who|what|how|why|where|when)\s+(?:and|or)\s+(?:what|who)",
    re.I,
)


def main(arguments: list[str]) -> int:
    """Print the figures, with ``--list`` each place too; return 1 above the limit."""
    parser = argparse.ArgumentParser(prog="prose.py", description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--list", action="store_true", help="show each place")
    parser.add_argument("paths", nargs="*", help="files and folders of the checkout (default: all)")
    chosen = parser.parse_args(arguments)
    words, found = 0, []
    for path in _files(chosen.paths):
        for line, text in texts(path):
            words += len(text.split())
            found += [(path, line + text[: m.start()].count("\n"), _shown(text, m)) for m in subjects(text)]
    if chosen.list:
        for path, line, shown in found:
            print(f"{path}:{line}: {shown}")
    rate = len(found) * 10_000 / max(words, 1)
    print(f"{len(found)} subjects without a noun in {words} words: {rate:.1f} for each 10,000 (at most {LIMIT:.0f})")
    return int(rate > LIMIT)


def subjects(text: str) -> Iterator[re.Match[str]]:
    """Yield each place of a text whose subject is no noun.

    >>> [m[0].strip() for m in subjects("Mapped. What is mapped stays. The volume stays.")]
    ['. What']
    >>> list(subjects("The message says what to do next."))
    []
    """
    seen: set[int] = set()
    for pattern in _PATTERNS:
        for match in pattern.finditer(text):
            around = text[max(0, match.start() - 12) : match.end()]
            question = re.match(r"[^.;:]*\?", text[match.end() :])
            if question or match.end() in seen or _OBJECT.search(around):
                continue
            seen.add(match.end())
            yield match


def texts(path: Path) -> Iterator[tuple[int, str]]:
    """Yield (line, text) for each text of a file that a person reads."""
    source = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        yield from _of_python(source)
    elif path.suffix == ".toml":
        yield from ((1, value) for value in _strings(tomllib.loads(source)))
    elif path.suffix == ".rst":
        yield from _of_rst(source)
    else:
        yield from _of_comments(source)


def _of_python(source: str) -> Iterator[tuple[int, str]]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node)
            if text:
                first = node.body[0].lineno
                yield from ((first + line - 1, part) for line, part in _of_rst(text))
    block: list[str] = []
    start = previous = 0
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type != tokenize.COMMENT or token.string.startswith(("#!", "# noqa", "# type:")):
            continue
        if block and token.start[0] != previous + 1:
            yield start, "\n".join(block)
            block = []
        if not block:
            start = token.start[0]
        previous = token.start[0]
        block.append(re.sub(r"^#[:!]?\s?", "", token.string))
    if block:
        yield start, "\n".join(block)


def _of_comments(source: str) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(source.splitlines(), 1):
        match = re.search(r"(?:^|\s)#+ (.*)", line)
        if match:
            yield number, match[1]


def _of_rst(source: str) -> Iterator[tuple[int, str]]:
    """Yield the paragraphs of reStructuredText, without literals and doctests."""
    block: list[str] = []
    start = 0
    literal: int | None = None
    for number, line in enumerate([*source.splitlines(), ""], 1):
        indent = len(line) - len(line.lstrip())
        if literal is not None and line.strip():
            if indent > literal:
                continue
            literal = None
        if not line.strip() or line.lstrip().startswith(">>>"):
            if block:
                text = "\n".join(block)
                yield start, re.sub(r"``[^`]*``", "literal", text)
                if text.rstrip().endswith("::"):
                    literal = len(block[-1]) - len(block[-1].lstrip())
            block = []
            if line.lstrip().startswith(">>>"):
                literal = indent - 1
            continue
        if re.match(r"\s*\.\. (code-block|figure|image|toctree|list-table|graphviz)::", line):
            literal = indent if "code-block" in line or "graphviz" in line else None
            continue
        if not block:
            start = number
        block.append(re.sub(r"^(\s*)(?:[*#-]|\d+\.)\s", r"\1", line).strip() if not block else line.strip())


def _strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for each in value.values():
            yield from _strings(each)
    elif isinstance(value, list):
        for each in value:
            yield from _strings(each)


def _shown(text: str, match: re.Match[str]) -> str:
    return " ".join(text[max(0, match.start() - 20) : match.end() + 50].split())


def _files(chosen: list[str]) -> Iterator[Path]:
    listed = subprocess.run(["git", "ls-files", "-z", "--", *chosen], check=True, capture_output=True, text=True).stdout
    for name in filter(None, listed.split("\0")):
        path = Path(name)
        known = path.suffix in (".py", ".rst", ".sls", ".jinja", ".yaml", ".sh") or name in (
            "docs/semantics.toml",
            "Makefile",
            "pillar.example",
        )
        if known and not name.startswith(_LEFT_OUT) and path.is_file():
            yield path


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
