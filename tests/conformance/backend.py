"""The backend that the suite runs against: from a file, or from the master's configuration."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from saltstorage.controller.access.config import DEFAULT_PROVIDER, ControllerConfig, TypeEntry
from saltstorage.providers import Capability, StorageError


@dataclass(frozen=True)
class Backend:
    """A backend: its provider's name, and its options, which may be secret and so are not shown.

    :ivar types: extra specs and QoS specs to try; only a person who knows the backend can name
        them.
    :ivar refused: specs that it must refuse.
    :ivar limits: abilities that its driver has and the simulator behind it has not, each with the
        reason.
    :ivar contents: returns the names of all that is on the array; None where only the provider can
        say.
    """

    provider: str
    options: Mapping[str, Any] = field(repr=False)
    types: Sequence[TypeEntry] = ()
    refused: Sequence[TypeEntry] = ()
    limits: Mapping[Capability, str] = field(default_factory=dict)
    contents: Callable[[], set[str]] | None = None


def choose(value: str, master_config: str) -> Backend:
    """Return the backend that ``--backend`` means.

    :param value: a YAML or JSON file with the backend's entry of the master's configuration, or
        the backend's name there. A file may also have ``conformance``, with ``types`` and
        ``refused``, each in the form of the configuration's ``types``. With a name, the suite
        tries the types that have specs and whose volumes are on that backend.
    :param master_config: the master's configuration file.
    """
    path = Path(value)
    if path.is_file():
        given = yaml.safe_load(path.read_text())
        if not isinstance(given, dict):
            raise pytest.UsageError(f"{value} must hold one mapping: provider, and the provider's options")
        specs = given.pop("conformance", None) or {}
        if not isinstance(specs, dict) or not specs.keys() <= {"types", "refused"}:
            raise pytest.UsageError(f"{value}: conformance must be a mapping with types, refused or both")
        found = {key: _read_types(value, entries) for key, entries in specs.items()}
        return Backend(str(given.pop("provider", DEFAULT_PROVIDER)), given, **found)
    if "/" in value or path.suffix:
        raise pytest.UsageError(f"there is no file {value}")
    if not Path(master_config).is_file():
        raise pytest.UsageError(f"there is no file {value}, nor {master_config} that may have a backend of that name (--master-config)")
    import salt.config

    try:
        config = ControllerConfig.from_opts(salt.config.master_config(master_config))
        entry = config.backend(value)
    except StorageError as error:
        raise pytest.UsageError(f"{master_config}: {error.message}") from None
    types = [kind for kind in config.types.values() if kind.specs and (kind.backends or (config.default_backend,)) == (value,)]
    return Backend(entry.provider, entry.options, types)


def _read_types(file: str, entries: Any) -> list[TypeEntry]:
    """Return types in the form of the configuration, after a check."""
    try:
        found = ControllerConfig.from_opts({"storage": {"types": entries}}).types.values()
    except StorageError as error:
        raise pytest.UsageError(f"{file}: {error.message}") from None
    if lacking := [kind.name for kind in found if not kind.specs]:
        raise pytest.UsageError(f"{file}: the types {', '.join(lacking)} have no extra_specs or qos_specs")
    return list(found)
