"""Which options a Cinder driver has: from the objects of its code, whatever else is loaded.

oslo.config's own list will not do. It holds the options of every driver that was imported in the
process, and lacks those that a driver registers in its constructor or in another group.
"""

from __future__ import annotations

import functools
import inspect
import re
import sys
import types
from collections.abc import Iterator, Mapping
from typing import Any

from oslo_config import cfg

from .option_data import DELEGATES, FOREIGN

#: Modules whose options belong to a driver that uses their code.
_CODE = ("cinder.volume.drivers.", "cinder.volume.targets.spdknvmf", "saltstorage.drivers.", "saltstorage.controller.cinder.")

_DEFINITION = re.compile(r"""Opt\(\s*(name=)?['"]\w+['"]""")
_WORD = re.compile(r"""[.'"]([a-z]\w+)""")

# Cinder's RBD driver still reads it, and cinderlib offers it, but Cinder no longer defines it.
RBD_KEYRING = cfg.StrOpt("rbd_keyring_conf", default="", help="Path of the Ceph keyring file of the user rbd_user.")


def find_options(driver: type[Any]) -> Mapping[str, cfg.Opt]:
    """Return the definitions of all options that ``driver`` has, by name, those of Cinder's base
    class included.

    :param driver: the class, as ``bridge.import_driver_module`` imports it.
    """
    found = dict(general_options())
    own: list[cfg.Opt] = []
    for module in sorted(find_modules(driver), key=lambda module: module.__name__):
        own += _find_in(module)
    # Last, so that the driver's own word counts where two definitions have one name.
    own += driver.get_driver_options() or []
    if "RBDDriver" in (base.__name__ for base in driver.__mro__):
        own.append(RBD_KEYRING)
    path = f"{driver.__module__}.{driver.__qualname__}"
    foreign = tuple(prefix for start, prefixes in FOREIGN.items() if path.startswith(start) for prefix in prefixes)
    for option in own:
        if not (foreign and option.dest.startswith(foreign)):
            found[option.dest] = option
    return types.MappingProxyType(found)


def find_read(driver: type[Any]) -> Mapping[str, cfg.Opt]:
    """Return the options that the driver's own code reads or declares, by name: those that a
    person who configures it may need.
    """
    words = {option.dest for option in _without_base(driver.get_driver_options() or [])} | {RBD_KEYRING.dest}
    for module in find_modules(driver):
        words |= _find_words(module)
    # Both are the entry's own matter: its name, and the driver itself.
    words -= {"volume_backend_name", "volume_driver"}
    return types.MappingProxyType({name: option for name, option in find_options(driver).items() if name in words})


def _without_base(options: list[cfg.Opt]) -> list[cfg.Opt]:
    """Return no options for a driver that inherits the answer of Cinder's base class."""
    names = {option.dest for option in options}
    return [] if names and names <= general_options().keys() and len(names) > 20 else options


@functools.cache
def _find_words(module: types.ModuleType) -> frozenset[str]:
    """Return the words of a module's source that may name an option that it reads."""
    try:
        source = inspect.getsource(module)
    except (OSError, TypeError):
        return frozenset()
    return frozenset(_WORD.findall(_DEFINITION.sub("", source)))


@functools.cache
def general_options() -> Mapping[str, cfg.Opt]:
    """Return the definitions of the options that Cinder's base class gives to every driver."""
    import cinder.volume.driver
    import cinder.volume.manager

    options = [*_find_in(cinder.volume.driver), *cinder.volume.manager.volume_backend_opts]
    return types.MappingProxyType({option.dest: option for option in options})


def find_modules(driver: type[Any]) -> set[types.ModuleType]:
    """Return the modules of drivers' code that the class is made of or calls, directly or not."""
    names = [base.__module__ for base in driver.__mro__]
    found: set[types.ModuleType] = set()
    while names:
        name = names.pop()
        module = sys.modules.get(name)
        if module is None or module in found or not (name.startswith(_CODE) or name in driver_modules(driver)):
            continue
        found.add(module)
        names += _find_used(module)
        names += DELEGATES.get(name, ())
    return found


def driver_modules(driver: type[Any]) -> frozenset[str]:
    """Return the names of the modules that define the class and its bases, Cinder's own base
    classes left out.
    """
    return frozenset(base.__module__ for base in driver.__mro__ if base.__module__ not in ("cinder.volume.driver", "builtins", "abc"))


def _find_used(module: types.ModuleType) -> Iterator[str]:
    """Yield the names of the modules whose code ``module`` refers to."""
    for value in list(vars(module).values()):
        if isinstance(value, types.ModuleType):
            # A package gets its submodules as attributes from whoever imports them.
            if not hasattr(module, "__path__"):
                yield value.__name__
        elif isinstance(value, type | types.FunctionType):
            yield str(value.__module__)


def _find_in(module: types.ModuleType) -> list[cfg.Opt]:
    found = []
    for value in list(vars(module).values()):
        if isinstance(value, cfg.Opt):
            found.append(value)
        elif isinstance(value, list | tuple):
            found += [option for option in value if isinstance(option, cfg.Opt)]
    return found
