"""Takes classes out of the test files that Cinder installs with itself.

Such a file cannot be imported here: the package ``cinder.tests.unit`` patches the whole process
with eventlet, and wants test libraries that are no need of this project.
"""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

from saltstorage.controller.cinder import bridge


def take(file: str, *names: str) -> dict[str, Any]:
    """Return classes of one of Cinder's test files, and what of the same file they use.

    :param file: path below ``cinder/tests/unit/volume/drivers``.
    :param names: the classes.
    :return: classes, functions and constants by their names.
    :raises LookupError: the file has no such class.
    """
    bridge.load()
    import cinder

    path = Path(cinder.__file__).parent / "tests" / "unit" / "volume" / "drivers" / file
    body = ast.parse(path.read_text(encoding="utf-8")).body
    owner = {name: node for node in body for name in _bound(node)}
    wanted, found = list(names), set()
    while wanted:
        node = owner[wanted.pop()]
        if node not in found:
            found.add(node)
            wanted += [name for name in _used(node) if name in owner]
    namespace: dict[str, Any] = {"__name__": f"{__name__}.{path.stem}"}
    chosen: list[ast.stmt] = [node for node in body if node in found]
    with bridge._lock, bridge.quiet(), bridge.fake_packages():
        exec(compile(ast.Module(chosen, []), str(path), "exec"), namespace)  # noqa: S102 - Cinder's own code, as an import would
    return namespace


def _bound(node: ast.stmt) -> list[str]:
    """Return the names that a statement of a module defines."""
    if isinstance(node, ast.Import | ast.ImportFrom):
        return [alias.asname or alias.name.partition(".")[0] for alias in node.names]
    if isinstance(node, ast.ClassDef | ast.FunctionDef):
        return [node.name]
    if isinstance(node, ast.Assign):
        return [target.id for target in node.targets if isinstance(target, ast.Name)]
    return []


def _used(node: ast.stmt) -> set[str]:
    return {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}
