"""Which backend the suite runs against: one in a file, or one of the master's configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from saltstorage.controller.config import DEFAULT_PROVIDER, ControllerConfig
from saltstorage.errors import StorageError


@dataclass(frozen=True)
class Backend:
    """A backend: its provider's name, and its options, which may be secret and so are not shown."""

    provider: str
    options: Mapping[str, Any] = field(repr=False)
    root_helper: str = ""


def chosen(value: str, master_config: str) -> Backend:
    """Return the backend that ``--backend`` means.

    :param value: a YAML or JSON file with what stands under the backend's name in the master's configuration, or that name.
    :param master_config: the master's configuration file.
    """
    path = Path(value)
    if path.is_file():
        given = yaml.safe_load(path.read_text())
        if not isinstance(given, dict):
            raise pytest.UsageError(f"{value} must hold one mapping: provider, and the provider's options")
        return Backend(str(given.pop("provider", DEFAULT_PROVIDER)), given)
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
    return Backend(entry.provider, entry.options, config.root_helper)
