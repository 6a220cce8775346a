"""Lists the installed Cinder drivers with their options, as Cinder's own registry has them.

The drivers are imported in a process of their own: a hundred vendors' modules would stay in the
memory of the engine.
"""

from __future__ import annotations

import inspect
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...errors import FailedPreconditionError, InternalError
from .option_data import BASES

_REGISTERED = re.compile(r"^@interface\.volumedriver\b.*?^class\s+(\w+)", re.MULTILINE | re.DOTALL)
_OWN = "saltstorage.drivers"
_TIMEOUT = 300
_PROTOCOLS = {"iscsi": "iSCSI", "fc": "FC", "fibrechannel": "FC", "nvme": "NVMe-oF", "nvmeof": "NVMe-oF", "nfs": "NFS", "rbd": "ceph"}


def list_drivers(name: str = "", *, options: bool = True) -> list[dict[str, Any]]:
    """Return the drivers whose class path contains ``name``, sorted by class path.

    Takes seconds: drivers are slow to import.

    :param name: part of the class path, case ignored; empty for all.
    :param options: whether to include each driver's options.
    :return: for each driver ``class`` (for the option ``volume_driver``), ``name``, ``vendor``,
        ``protocol`` (empty when it depends on options), ``version``, ``wiki``, ``supported``,
        ``description``, ``missing`` (Python modules that its code imports and that are not
        installed), ``install`` (what to install for them, and where), ``error`` (why it cannot be
        imported, else empty), and ``options``: ``name``, ``type``, ``default``, ``required``,
        ``one_of`` (options of which one is required, this one among them), ``secret``, ``choices``
        and ``help`` of each.
    :raises FailedPreconditionError: Cinder or cinderlib is not installed.

    >>> [driver["name"] for driver in list_drivers("saltstorage")]
    ['FileDriver', 'FileISCSIDriver', 'LVMISCSIDriver']
    """
    root = str(Path(__file__).parents[3])
    path = os.pathsep.join([root, *(entry for entry in sys.path if entry)])
    command = [
        sys.executable,
        "-W",
        "ignore",
        "-m",
        __name__ if __name__ != "__main__" else "saltstorage.controller.cinder.drivers_list",
        name,
    ]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, stdin=subprocess.DEVNULL, capture_output=True, timeout=_TIMEOUT)
    try:
        answer = json.loads(done.stdout.rpartition(b"\0")[2])
    except ValueError:
        raise InternalError(f"the drivers could not be listed: {done.stderr[-400:].decode(errors='replace').strip()}") from None
    if isinstance(answer, dict):
        raise FailedPreconditionError(str(answer["error"]))
    if not options:
        for driver in answer:
            del driver["options"]
    return list(answer)


def _collect(name: str) -> list[dict[str, Any]]:
    """Import the drivers whose class path contains ``name`` and describe them."""
    from . import bridge

    bridge.load()
    found = []
    for module_name, class_names in _find_modules():
        wanted = [class_name for class_name in class_names if name.lower() in f"{module_name}.{class_name}".lower()]
        if not wanted:
            continue
        try:
            module = bridge.import_driver_module(module_name)
        except BaseException as error:  # A module may do anything, sys.exit() included.
            if isinstance(error, KeyboardInterrupt):
                raise
            found += [_describe_unusable(module_name, class_name, error) for class_name in wanted]
            continue
        for class_name in wanted:
            try:
                found.append(_describe(getattr(module, class_name)))
            except Exception as error:
                found.append(_describe_unusable(module_name, class_name, error))
    return sorted(found, key=lambda driver: str(driver["class"]))


def import_drivers() -> Iterator[tuple[str, type[Any]]]:
    """Import the drivers one after the other, and yield the class path and class of each; for
    tools and tests.
    """
    from . import bridge

    bridge.load()
    for module_name, class_names in _find_modules():
        for class_name in class_names:
            yield f"{module_name}.{class_name}", getattr(bridge.import_driver_module(module_name), class_name)


def _find_modules() -> list[tuple[str, list[str]]]:
    """Return the modules that register drivers, each with its classes' names, from the source, so
    that the others need no import.
    """
    import cinder.volume.drivers

    places = [(Path(cinder.volume.drivers.__file__).parent, "cinder.volume.drivers"), (Path(__file__).parents[2] / "drivers", _OWN)]
    found = []
    for folder, package in places:
        for path in sorted(folder.rglob("*.py")):
            names = _REGISTERED.findall(path.read_text(encoding="utf-8", errors="replace"))
            parts = path.relative_to(folder).with_suffix("").parts
            module = ".".join([package, *(part for part in parts if part != "__init__")])
            names = [name for name in names if f"{module}.{name}" not in BASES]
            if names:
                found.append((module, names))
    return found


def _describe(driver: type[Any]) -> dict[str, Any]:
    from cinder.interface import util

    from . import declared, packages, required

    info = util.DriverInfo(driver)
    groups = required.find_groups(driver)
    return {
        "class": info.class_fqn,
        "name": info.class_name,
        "vendor": _find_vendor(info.class_fqn, driver),
        "protocol": _find_protocol(info.class_fqn, driver),
        "version": str(info.version or ""),
        "wiki": f"https://wiki.openstack.org/wiki/ThirdPartySystems/{info.ci_wiki_name}" if info.ci_wiki_name else "",
        "supported": bool(info.supported),
        "description": " ".join((inspect.getdoc(driver) or "").partition("\n\n")[0].split()),
        "missing": (missing := packages.find_missing(driver)),
        "install": packages.advise(missing),
        "error": "",
        "options": [_describe_option(option, groups) for _name, option in sorted(declared.find_read(driver).items())],
    }


def _describe_unusable(module: str, name: str, error: BaseException) -> dict[str, Any]:
    from . import packages

    path = f"{module}.{name}"
    missing = [error.name] if isinstance(error, ModuleNotFoundError) and error.name else []
    return {
        "class": path,
        "name": name,
        "vendor": _find_vendor(path, None),
        "protocol": _find_protocol(path, None),
        "version": "",
        "wiki": "",
        "supported": True,
        "description": "",
        "missing": missing,
        "install": packages.advise(missing),
        "error": f"{type(error).__name__}: {error}"[:300],
        "options": [],
    }


def _describe_option(option: Any, groups: list[tuple[str, ...]]) -> dict[str, Any]:
    kind = option.type
    choices = getattr(kind, "choices", None)
    default = option.default
    return {
        "name": option.dest,
        "type": str(getattr(kind, "type_name", None) or kind),
        # Objects such as addresses have a text form only.
        "default": default if default is None or isinstance(default, bool | int | float | str | list | dict) else str(default),
        "required": (option.dest,) in groups,
        "one_of": next((list(group) for group in groups if len(group) > 1 and option.dest in group), []),
        "secret": bool(option.secret),
        "choices": list(choices) if choices else [],
        "help": " ".join(str(option.help or "").split()),
    }


def _find_vendor(path: str, driver: type[Any] | None) -> str:
    """Return the vendor by the driver's own word, else by the folder or module of its code."""
    for attribute in ("VENDOR", "VENDOR_NAME", "vendor_name"):
        value = getattr(driver, attribute, None)
        if isinstance(value, str) and value:
            return value
    return path.removeprefix("cinder.volume.drivers.").partition(".")[0].replace("_", " ")


def _find_protocol(path: str, driver: type[Any] | None) -> str:
    """Return the protocol by the class or its name; many drivers learn it from their options."""
    for attribute in ("PROTOCOL", "STORAGE_PROTOCOL", "protocol", "storage_protocol"):
        value = getattr(driver, attribute, None)
        if isinstance(value, list | tuple) and value:
            value = value[0]
        if isinstance(value, str) and value:
            return _PROTOCOLS.get(value.lower(), value)
    words = re.findall(r"iSCSI|ISCSI|[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+", path.rpartition(".")[2])
    words += re.split(r"[._]", path.lower())
    return next((_PROTOCOLS[word.lower()] for word in words if word.lower() in _PROTOCOLS), "")


def _main() -> None:
    try:
        answer: Any = _collect(sys.argv[1] if len(sys.argv) > 1 else "")
    except FailedPreconditionError as error:
        answer = {"error": error.message}
    # A driver may have printed something; the answer follows the null character.
    sys.stdout.write("\0" + json.dumps(answer, default=str))


if __name__ == "__main__":
    _main()
