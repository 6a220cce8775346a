"""Finds the class of a provider by its name in the configuration."""

from __future__ import annotations

import difflib
import importlib
import importlib.metadata
import inspect

from ..errors import FailedPreconditionError, InvalidArgumentError
from .base import Provider

#: Entry point group under which other packages offer providers.
ENTRY_POINTS = "saltstorage.providers"
BUILT_IN = {"cinderlib": "saltstorage.controller.cinder.provider.CinderlibProvider"}


def find_provider(name: str) -> type[Provider]:
    """Return the provider class for a short name, the name of an entry point, or a dotted path.

    :param name: ``cinderlib``, the name of an entry point in the group ``saltstorage.providers``,
        or ``package.module.Class``.
    :raises InvalidArgumentError: there is no such provider.
    :raises FailedPreconditionError: it exists but cannot be imported.

    >>> find_provider("cinderlib").__name__
    'CinderlibProvider'
    """
    if not isinstance(name, str) or not name:
        raise InvalidArgumentError(f"provider must be a name such as 'cinderlib', not {name!r}", field="provider")
    path = BUILT_IN.get(name)
    if path is None:
        points = importlib.metadata.entry_points(group=ENTRY_POINTS)
        if name in points.names:
            path = points[name].value.replace(":", ".")
        elif "." in name and all(name.split(".")):
            path = name
        else:
            known = sorted({*BUILT_IN, *points.names})
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}, or the dotted path of a class"
            raise InvalidArgumentError(f"there is no provider {name!r}; {hint}", field="provider")
    return _load(name, path)


def _load(name: str, path: str) -> type[Provider]:
    module_name, _, class_name = path.rpartition(".")
    try:
        found = getattr(importlib.import_module(module_name), class_name, None)
    except ModuleNotFoundError as error:
        if error.name and (module_name == error.name or module_name.startswith(f"{error.name}.")):
            raise InvalidArgumentError(f"the provider {name!r} has no module {module_name!r}", field="provider") from None
        raise FailedPreconditionError(f"the provider {name!r} needs the Python package {error.name!r} on the controller") from error
    except Exception as error:
        raise FailedPreconditionError(f"the provider {name!r} cannot be imported: {type(error).__name__}: {error}") from error
    if not inspect.isclass(found) or not issubclass(found, Provider):
        raise InvalidArgumentError(f"the provider {name!r} is not a subclass of saltstorage.providers.Provider", field="provider")
    return found
