"""The file driver with hooks, for events that only a driver can bring about."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from cinder.volume.driver import VolumeDriver

from saltstorage.drivers.file import FileDriver


class FaultyDriver(FileDriver):
    """Calls ``hooks[name]`` before the driver's method of that name.

    ``hooks["after " + name]`` is called after it.
    """

    hooks: ClassVar[dict[str, Callable[[], Any]]] = {}

    def _around(self, name: str, *args: Any) -> Any:
        self.hooks.get(name, lambda: None)()
        answer = getattr(super(), name)(*args)
        self.hooks.get(f"after {name}", lambda: None)()
        return answer

    def initialize_connection(self, volume: Any, connector: Any) -> Any:
        return self._around("initialize_connection", volume, connector)

    def extend_volume(self, volume: Any, new_size: int) -> Any:
        return self._around("extend_volume", volume, new_size)

    def create_snapshot(self, snapshot: Any) -> Any:
        return self._around("create_snapshot", snapshot)

    def delete_snapshot(self, snapshot: Any) -> Any:
        return self._around("delete_snapshot", snapshot)

    def revert_to_snapshot(self, context: Any, volume: Any, snapshot: Any) -> Any:
        return self._around("revert_to_snapshot", context, volume, snapshot)


class OfflineDriver(FaultyDriver):
    """Grows only what no host uses, and sets no volume back."""

    revert_to_snapshot = VolumeDriver.revert_to_snapshot

    def _update_volume_stats(self) -> None:
        super()._update_volume_stats()
        self._stats["online_extend_support"] = False
