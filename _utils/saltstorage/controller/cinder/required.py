"""Which options a driver cannot do without, so that they are named before it is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from oslo_config import cfg

from ...errors import InvalidArgumentError
from . import option_data, required_found

#: Names of options of which one is enough.
Group = tuple[str, ...]


def find_groups(driver: type[Any]) -> list[Group]:
    """Return what the driver needs: by its own declaration, and by the tables.

    :return: each a group of options of which one must be set.
    """
    path = f"{driver.__module__}.{driver.__qualname__}"
    found = next((groups for start, groups in option_data.REQUIRED.items() if path.startswith(start)), None)
    if found is None:
        found = required_found.FOUND.get(path, ())
    declared = [(str(option.dest),) for option in driver.get_driver_options() or [] if option.required and option.default is None]
    return [*declared, *found]


def check(backend: str, driver: type[Any], options: Mapping[str, Any], known: Mapping[str, cfg.Opt]) -> None:
    """Refuse options among which a needed one is missing.

    :param known: the definitions of the driver's options.
    :raises InvalidArgumentError: naming all that are missing; ``field`` is the first.
    """
    missing = [group for group in find_groups(driver) if all(options.get(name) in (None, "", [], {}) for name in group)]
    if missing:
        texts = [f"{' or '.join(map(repr, group))}: {_help(known[group[0]])}" for group in missing]
        raise InvalidArgumentError(
            f"backend {backend!r} lacks the option{'s' if len(missing) > 1 else ''} {'; '.join(texts)}", field=missing[0][0]
        )


def _help(option: cfg.Opt) -> str:
    """Return the first sentence of an option's help."""
    return " ".join(str(option.help or option.dest).split()).partition(". ")[0].rstrip(".")
