"""Drivers, volumes and hosts for tests of the cinderlib provider."""

from __future__ import annotations

import uuid
from pathlib import Path

from saltstorage.providers import ProviderVolume

FILE = "saltstorage.drivers.file.FileDriver"
RECORDING = "tests.unit.controller.cinder.recording_driver.RecordingDriver"


def new(size: int = 1) -> ProviderVolume:
    return ProviderVolume(id=str(uuid.uuid4()), size=size)


def host(name: str) -> dict[str, str]:
    return {"host": name, "initiator": name}


def files(provider) -> list[str]:
    return sorted(path.name for path in Path(provider.config.options["file_driver_path"]).iterdir())
