"""Which Python packages a driver's code imports, and what to install where one is missing.

Minimum versions are Cinder's own: the extras of its package.
"""

from __future__ import annotations

import ast
import functools
import importlib.metadata
import importlib.util
import re
import sys
import types
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from . import declared

#: Modules that drivers import, and the package of the Python index that has each.
PYPI = {
    "OpenSSL": "pyOpenSSL",
    "capacity": "infinisdk",
    "dfs_sdk": "dfs-sdk",
    "hpe3parclient": "python-3parclient",
    "hpe_storage_flowkit_py": "hpe-storage-flowkit-py",
    "infi": "infinisdk",
    "infinisdk": "infinisdk",
    "krest": "krest",
    "linstor": "python-linstor",
    "pypureclient": "py-pure-client",
    "pywbem": "pywbem",
    "pyxcli": "pyxcli",
    "rbd_iscsi_client": "rbd-iscsi-client",
    "rsd_lib": "rsd-lib",
    "storops": "storops",
    "sushy": "rsd-lib",
    "websocket": "websocket-client",
}
#: Modules that no index has: the package that Debian, Ubuntu, Red Hat and SUSE name alike.
DISTRIBUTION = {"rados": "python3-rados", "rbd": "python3-rbd"}

_LINE = re.compile(r"^[ \t]*(?:import[ \t]+(.+)|from[ \t]+(\w+).*)$", re.MULTILINE)
_TRY = re.compile(r"try_import\(\s*['\"](\w+)")


def find_missing(driver: type[Any]) -> list[str]:
    """Return the top-level Python modules that the driver's code imports and that are not
    installed, sorted.

    Many drivers go on without the library of their vendor and fail later, with an error that does
    not name it.
    """
    return sorted({name for module in declared.find_modules(driver) for name in _find_lacking(module)})


def advise(modules: Iterable[str]) -> str:
    """Return what to install, and where, for modules that are missing.

    >>> advise(["krest"])  # doctest: +ELLIPSIS
    "install it into the storage environment: ...python... -m pip install 'krest>=1.3.0'"
    """
    names = [name.partition(".")[0] for name in modules]
    system = sorted({DISTRIBUTION[name] for name in names if name in DISTRIBUTION})
    index = sorted({requirement(PYPI[name]) for name in names if name in PYPI})
    # Anybody may have taken the name of a module on the index.
    unknown = sorted({name for name in names if name not in PYPI and name not in DISTRIBUTION})
    advice = []
    if system:
        advice.append(
            f"install the distribution's package{'s' if len(system) > 1 else ''} {' and '.join(system)} on the controller and name "
            "the folder that has them in pillar storage:controller:python_path, for the same version of Python"
        )
    if index:
        advice.append(f"install it into the storage environment: {sys.executable} -m pip install {' '.join(map(repr, index))}")
    if unknown:
        advice.append(f"the vendor's guide says which package has {' and '.join(map(repr, unknown))}")
    return "; ".join(advice)


def explain(error: ImportError) -> str:
    """Return what an import that failed means: a missing package, or one of an unfit version."""
    name = str(error.name or "")
    top = name.partition(".")[0]
    if not top:
        return f"an import failed: {error}"
    if is_installed(top):
        fit = requirement(PYPI.get(top, top))
        return f"the installed version of the Python package {top!r} does not fit the driver, which needs {fit!r}: {error}"
    return f"the Python package {top!r} is not installed on the controller; {advise([top])}"


def requirement(package: str) -> str:
    """Return a package's name with the minimum version that Cinder's extras ask for, if any.

    >>> requirement("no-such-package")
    'no-such-package'
    """
    return _requirements().get(package.lower(), package)


def is_installed(module: str) -> bool:
    """Return whether a top-level module can be found; it is not imported."""
    if module in sys.modules:
        return sys.modules[module] is not None
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


@functools.cache
def _requirements() -> dict[str, str]:
    found = {}
    for line in importlib.metadata.requires("cinder") or []:
        text, _, marker = line.partition(";")
        if "extra" in marker:
            name = re.split(r"[<>=!~ \[]", text.strip(), maxsplit=1)[0]
            found[name.lower()] = text.strip()
    return found


def _find_lacking(module: types.ModuleType) -> set[str]:
    """Return the modules that a module's source imports and that are not installed."""
    file = getattr(module, "__file__", None)
    source = _read(file)
    # Parsing takes long, and most modules import nothing that could be missing.
    words = {part.strip().partition(" ")[0].partition(".")[0] for line, _ in _LINE.findall(source) for part in line.split(",")}
    words |= {name for _, name in _LINE.findall(source)} | set(_TRY.findall(source))
    words = {word for word in words if word.isidentifier() and not is_installed(word)}
    if not words:
        return set()
    known = PYPI.keys() | DISTRIBUTION.keys()
    # A module next to this one is no package.
    return {name for name in words & _find_imports(source) if name in known or not Path(str(file)).with_name(f"{name}.py").exists()}


@functools.cache
def _read(file: str | None) -> str:
    try:
        return Path(file).read_text(encoding="utf-8", errors="replace") if file and file.endswith(".py") else ""
    except OSError:
        return ""


@functools.cache
def _find_imports(source: str) -> frozenset[str]:
    """Return the top-level modules that a source imports, in whatever form."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            found.add(node.module.partition(".")[0])
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("try_import") and isinstance(node.args[0], ast.Constant):
            found.add(str(node.args[0].value).partition(".")[0])
    return frozenset(found)
