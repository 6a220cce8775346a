"""Goes through all drivers in a process of its own and prints, as JSON, what is wrong with their
options; empty when all is well.
"""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path
from typing import Any

from oslo_config import types

from saltstorage.controller.cinder import bridge, declared, option_data, options, packages, required, required_found
from saltstorage.controller.cinder.drivers_list import import_drivers
from saltstorage.errors import InvalidArgumentError

#: First words of options that drivers of several vendors have in common.
SHARED = {"api", "chap", "cinder", "default", "deferred", "enable", "file", "initiator", "lvm", "max", "nas", "nfs", "pool", "rados", "rbd"}
SHARED |= {"replication", "report", "san", "spdk", "ssh", "volume"}


def sample(option: Any, kind: Any = None) -> Any:
    """Return a value that is valid for the option and is not its default, where there is one."""
    kind = kind or option.type
    if option.multi or isinstance(kind, types.Dict):
        value: Any = {"backend_id": "r1", "san_ip": "192.0.2.1"} if isinstance(kind, types.Dict) else "192.0.2.7"
        return [value] if option.multi else value
    if isinstance(kind, types.List):
        return [sample(option, kind.item_type)]
    choices = list(getattr(kind, "choices", None) or [])
    if choices:
        return next((choice for choice in reversed(choices) if choice != option.default), choices[0])
    if isinstance(kind, types.Boolean):
        return not option.default
    if isinstance(kind, types.Integer | types.Float):
        return next(value for value in (kind.max, kind.min, 77) if value is not None and value != option.default)
    if isinstance(kind, types.IPAddress):
        return "192.0.2.7"
    if getattr(kind, "regex", None):
        return next(text for text in ("192.0.2.7", "1.5", "5G") if kind.regex.search(text))
    return "https://192.0.2.7" if isinstance(kind, types.URI) else "192.0.2.7"


def walk(backend_class: Any) -> list[str]:
    wrong = []
    first = {}
    drivers = []
    starts: dict[str, set[str]] = {}
    for path, driver in import_drivers():
        first[path] = dict(declared.find_options(driver))
        drivers.append((path, driver))
    general = declared.general_options().keys()
    everything = {name for options_ in first.values() for name in options_}
    for number, (path, driver) in enumerate(drivers):
        known = declared.find_options(driver)
        if known.keys() != first[path].keys():
            wrong.append(f"{path}: depends on what else is loaded: {sorted(known.keys() ^ first[path].keys())}")
        lost = {option.dest for option in driver.get_driver_options() or []} - known.keys()
        if lost:
            wrong.append(f"{path}: declares, but may not have {sorted(lost)}")
        # Values reach the driver, with what its constructor registers.
        given = {name: sample(option) for name, option in known.items() if name not in ("volume_driver", "volume_backend_name")}
        given |= {"volume_driver": path, "volume_backend_name": f"walk{number}"}
        seen = object.__new__(backend_class)._get_backend_config(given)
        seen.append_config_values(driver.get_driver_options() or [])
        bad = [name for name, value in given.items() if getattr(seen, name) != value and str(getattr(seen, name)) != str(value)]
        if bad:
            wrong.append(f"{path}: does not get {[(name, given[name], getattr(seen, name)) for name in bad]}")
        for name in sorted(everything - known.keys())[number % 7 :: 199]:
            try:
                options.check("walk", {"volume_driver": path, name: "x"})
            except InvalidArgumentError as error:
                if error.field == name and "storage.drivers" in error.message:
                    continue
            wrong.append(f"{path}: has the option {name} of another")
        starts.setdefault(".".join(path.split(".")[:4]), set()).update(name.partition("_")[0] for name in known.keys() - general)
    vendors = {start: {place for place, found in starts.items() if start in found} for start in set().union(*starts.values())}
    shared = {start: sorted(places) for start, places in vendors.items() if len(places) > 1 and start not in SHARED}
    if shared:
        wrong.append(f"options of one vendor are another's: {shared}")
    return wrong


def compare_required() -> list[str]:
    """Compare the tables of needed options with the installed Cinder."""
    tool = runpy.run_path(str(Path(__file__).parents[4] / "tools" / "required_options.py"))
    drivers = dict(import_drivers())
    found = {path: tuple(groups) for path, driver in drivers.items() if (groups := tool["find_required"](driver))}
    wrong = [] if found == required_found.FOUND else ["required_found.py is old: run tools/required_options.py"]
    for start, groups in option_data.REQUIRED.items():
        meant = [driver for path, driver in drivers.items() if path.startswith(start)]
        wrong += [] if meant else [f"REQUIRED: no driver starts with {start}"]
        for known in map(declared.find_options, meant):
            lost = [name for group in groups for name in group if name not in known or known[name].default]
            wrong += [f"REQUIRED: {start} does not lack {lost}"] if lost else []
    for path, driver in drivers.items():
        words = declared.find_read(driver).keys()
        unread = [name for group in required.find_groups(driver) for name in group if name not in words]
        wrong += [f"{path} is said to need {unread}, which it does not read"] if unread else []
    return wrong


def find_unknown_packages() -> list[str]:
    """Return modules that drivers import, that are not installed, and that the table lacks."""
    missing = {name for _path, driver in import_drivers() for name in packages.find_missing(driver)}
    unknown = missing - packages.PYPI.keys() - packages.DISTRIBUTION.keys()
    return [f"nothing says what to install for {sorted(unknown)}"] if unknown else []


if __name__ == "__main__":
    sys.stdout.write(json.dumps(walk(bridge.load()) + compare_required() + find_unknown_packages()))
