#!/usr/bin/env python3
"""Find the options that each installed Cinder driver asks for, in the driver's own source.

Run it with the storage environment's Python after an update of Cinder, put its output into
``_utils/saltstorage/controller/cinder/required_found.py`` and run ``ruff format`` on it; a test
compares the two. It finds two forms, in functions that check or set up:

* a list of names, called ``required`` or the like, that the driver goes through;
* ``if not self.configuration.san_ip: raise``, with ``and``, ``or`` and ``safe_get``.

It misses drivers that go on without. ``option_data.REQUIRED`` has those, written by hand.
"""

from __future__ import annotations

import ast
import functools
import inspect
import re
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
_LISTS = re.compile(r"requir|mandatory|must", re.IGNORECASE)
_SAN = "cinder.volume.drivers.san.san"
_CHECKS = re.compile(r"setup|check|valid|init|config|param", re.IGNORECASE)
# One requirement: names of which one is enough.
Group = tuple[str, ...]


def find_required(driver: type[Any]) -> list[Group]:
    """Return the requirements of a driver, each a group of options of which one must be set,
    sorted. Options with a default are left out: they are never missing.
    """
    from saltstorage.controller.cinder.declared import find_modules, find_options

    options = find_options(driver)
    groups: set[Group] = set()
    classes = {base.__name__ for base in driver.__mro__}
    for module in find_modules(driver):
        # Most drivers that inherit from Cinder's SAN class replace its check.
        if module.__name__ == _SAN and driver.check_for_setup_error.__module__ != _SAN:
            continue
        for name, found in _find_in(module).items():
            groups |= found if name in classes or name not in _registered(module) else set()
    known = {group for group in groups if all(name in options and not options[name].default for name in group)}
    return sorted(group for group in known if not any(set(other) < set(group) for other in known))


@functools.cache
def _find_in(module: types.ModuleType) -> dict[str, set[Group]]:
    """Return the requirements in each class of a module; "" for the statements outside."""
    found: dict[str, set[Group]] = {}
    for node in _parse(module).body:
        name = node.name if isinstance(node, ast.ClassDef) else ""
        found.setdefault(name, set()).update(_find_lists(node), _find_conditions(node))
    return found


@functools.cache
def _registered(module: types.ModuleType) -> frozenset[str]:
    """Return the classes of a module that are drivers of their own."""
    marks = [(node.name, mark) for node in _parse(module).body if isinstance(node, ast.ClassDef) for mark in node.decorator_list]
    return frozenset(name for name, mark in marks if "volumedriver" in ast.unparse(mark))


@functools.cache
def _parse(module: types.ModuleType) -> ast.Module:
    try:
        return ast.parse(inspect.getsource(module))
    except OSError:  # An empty file.
        return ast.Module(body=[], type_ignores=[])


def _find_lists(scope: ast.AST) -> Iterator[Group]:
    for node in ast.walk(scope):
        if isinstance(node, ast.Assign) and any(_LISTS.search(_target(target)) for target in node.targets):
            for part in ast.walk(node.value):
                if isinstance(part, ast.List | ast.Tuple):
                    yield from ((item.value,) for item in part.elts if isinstance(item, ast.Constant) and isinstance(item.value, str))


def _target(node: ast.expr) -> str:
    return str(getattr(node, "id", "") or getattr(node, "attr", ""))


def _find_conditions(scope: ast.AST) -> Iterator[Group]:
    for function in ast.walk(scope):
        if isinstance(function, ast.FunctionDef) and _CHECKS.search(function.name):
            for node in function.body:
                # A check below another condition is needed under that condition only.
                if isinstance(node, ast.If) and isinstance(node.body[-1], ast.Raise):
                    yield from _read(node.test)


def _read(test: ast.expr) -> list[Group]:
    """Return the requirements whose lack makes ``test`` true."""
    if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
        return _needed(test.operand)
    if isinstance(test, ast.Compare) and isinstance(test.ops[0], ast.Is) and ast.unparse(test.comparators[0]) == "None":
        return _needed(test.left)
    if isinstance(test, ast.BoolOp):
        parts = [_read(value) for value in test.values]
        if isinstance(test.op, ast.Or):
            return [group for part in parts for group in part]
        if all(len(part) == 1 for part in parts):
            return [tuple(name for part in parts for name in part[0])]
    return []


def _needed(value: ast.expr) -> list[Group]:
    """Return the requirements that make ``value`` true."""
    if isinstance(value, ast.BoolOp):
        parts = [_needed(part) for part in value.values]
        if isinstance(value.op, ast.And):
            return [group for part in parts for group in part]
        return [tuple(name for part in parts for name in part[0])] if all(len(part) == 1 for part in parts) else []
    if isinstance(value, ast.Attribute) and re.search(r"conf(ig(uration)?)?$", ast.unparse(value.value)):
        return [(value.attr,)]
    if isinstance(value, ast.Call) and ast.unparse(value.func).endswith((".safe_get", "getattr")):
        return [(item.value,) for item in value.args[-1:] if isinstance(item, ast.Constant) and isinstance(item.value, str)]
    return []


def _line(group: Group) -> str:
    names = ", ".join(f'"{name}"' for name in group)
    return f"        ({names}{',' if len(group) == 1 else ''}),"


def main() -> None:
    """Print the module of the table."""
    sys.path.insert(0, str(ROOT / "_utils"))
    from saltstorage.controller.cinder.drivers_list import import_drivers

    lines = ['"""Made by tools/required_options.py from the sources of Cinder\'s drivers; do not edit."""', ""]
    lines += ["#: By class path: groups of options of which one is needed."]
    lines += ["FOUND: dict[str, tuple[tuple[str, ...], ...]] = {"]
    for path, driver in import_drivers():
        groups = find_required(driver)
        if groups:
            lines += [f'    "{path}": (', *map(_line, groups), "    ),"]
    sys.stdout.write("\n".join([*lines, "}", ""]))


if __name__ == "__main__":
    main()
