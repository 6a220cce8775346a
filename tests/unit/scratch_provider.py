"""A provider of files with the required abilities only; no host can attach its volumes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from saltstorage.providers import (
    AlreadyExistsError,
    BackendStats,
    Capability,
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    Provider,
    ProviderSnapshot,
    ProviderVolume,
    UnimplementedError,
)


class ScratchProvider(Provider):
    """Options: ``folder``; ``leak``: nothing is ever deleted; ``specs``: the known specs;
    ``careless``: it checks specs too late.
    """

    def load(self) -> None:
        self.folder = Path(self.config.options["folder"])
        self.leak = bool(self.config.options.get("leak"))
        self.specs = self.config.options.get("specs")

    def capabilities(self) -> frozenset[Capability]:
        return frozenset() if self.specs is None else frozenset({Capability.SPECS})

    def stats(self) -> BackendStats:
        return BackendStats(name=self.config.name, protocol="scratch")

    def create_volume(self, volume: ProviderVolume, *, source: ProviderVolume | ProviderSnapshot | None = None) -> int:
        if self._file(volume).exists():
            raise AlreadyExistsError(f"volume {volume.id} exists")
        unknown = sorted({*volume.extra_specs, *volume.qos_specs} - set(self.specs or ()))
        if not unknown or self.config.options.get("careless"):
            self._write(volume, {"size": volume.size, "connections": {}})
        if unknown:
            raise InvalidArgumentError(f"there are no specs {', '.join(unknown)}")
        return volume.size

    def delete_volume(self, volume: ProviderVolume) -> bool:
        found = self._read(volume)
        if found and found["connections"]:
            raise FailedPreconditionError(f"volume {volume.id} is connected")
        if not self.leak:
            self._file(volume).unlink(missing_ok=True)
        return found is not None

    def volume_size(self, volume: ProviderVolume) -> int | None:
        found = self._read(volume)
        return found["size"] if found else None

    def connect(
        self, volume: ProviderVolume, connection_id: str, connector: Mapping[str, Any], *, read_only: bool = False
    ) -> dict[str, Any]:
        found = self._read(volume)
        if found is None:
            raise NotFoundError(f"volume {volume.id} does not exist")
        found["connections"][connection_id] = connector["host"]
        self._write(volume, found)
        return {"driver_volume_type": "scratch", "data": {"volume": volume.id, "access_mode": "ro" if read_only else "rw"}}

    def disconnect(self, volume: ProviderVolume, connection_id: str, connector: Mapping[str, Any], *, last: bool) -> None:
        found = self._read(volume)
        if found and found["connections"].pop(connection_id, None):
            self._write(volume, found)

    def restore(self, volume: ProviderVolume) -> None:
        pass

    def _cannot(self, *args: Any) -> Any:
        raise UnimplementedError("not here")

    extend_volume = create_snapshot = delete_snapshot = _cannot

    def _file(self, volume: ProviderVolume) -> Path:
        return self.folder / f"{volume.id}.json"

    def _read(self, volume: ProviderVolume) -> dict[str, Any] | None:
        file = self._file(volume)
        return json.loads(file.read_text()) if file.exists() else None

    def _write(self, volume: ProviderVolume, content: dict[str, Any]) -> None:
        self._file(volume).write_text(json.dumps(content))
