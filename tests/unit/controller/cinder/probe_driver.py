r"""A Cinder driver for tests that returns from its calls whatever drivers of Cinder return, and
keeps what it was given.

The keys are those that the drivers of Cinder 29 put into model updates, by their sources:
``grep -rhoE "(model_)?updates?\['[a-z_]+'\] = " cinder/volume/drivers``, and the literals that
their methods return.
"""

from __future__ import annotations

import os
from typing import Any

from cinder import coordination

from saltstorage.drivers.file import FileDriver

SEEN = ("metadata", "provider_location", "provider_id", "provider_auth", "replication_status", "replication_driver_data")


def values(obj: Any, keys: tuple[str, ...] = SEEN) -> dict[str, Any]:
    return {key: getattr(obj, key) for key in keys}


class ProbeDriver(FileDriver):
    """Says of each call what it saw, in ``seen``."""

    def do_setup(self, context: Any) -> None:
        super().do_setup(context)
        self.seen: dict[str, dict[str, Any]] = {}

    def _volume(self, call: str) -> dict[str, Any]:
        return {
            "status": "available",
            "metadata": {"by": call, "array": "one"},
            "admin_metadata": {"internal": call},
            "provider_location": f"location {call}",
            "provider_id": f"id {call}",
            "provider_auth": f"CHAP {call} s3cret-{call}",
            "replication_status": "enabled",
            "replication_driver_data": f'{{"call": "{call}"}}',
            "replication_extended_status": call,
            "multiattach": False,
        }

    def _snapshot(self, call: str) -> dict[str, Any]:
        return {"status": "available", "metadata": {"by": call}, "provider_location": f"location {call}", "provider_id": f"id {call}"}

    @coordination.synchronized("probe-{volume.id}")
    def create_volume(self, volume: Any) -> dict[str, Any]:
        super().create_volume(volume)
        return self._volume("create")

    def create_volume_from_snapshot(self, volume: Any, snapshot: Any) -> dict[str, Any]:
        self.seen["from_snapshot"] = values(snapshot, ("metadata", "provider_location", "provider_id"))
        super().create_volume_from_snapshot(volume, snapshot)
        return self._volume("from_snapshot")

    def create_cloned_volume(self, volume: Any, src_vref: Any) -> dict[str, Any]:
        self.seen["clone"] = values(src_vref)
        super().create_cloned_volume(volume, src_vref)
        return self._volume("clone")

    def create_snapshot(self, snapshot: Any) -> dict[str, Any]:
        self.seen["snapshot"] = values(snapshot.volume)
        super().create_snapshot(snapshot)
        return self._snapshot("snapshot")

    def create_export(self, context: Any, volume: Any, connector: Any) -> dict[str, Any]:
        self.seen["export"] = values(volume)
        return self._volume("export")

    def ensure_export(self, context: Any, volume: Any) -> dict[str, Any]:
        self.seen["ensure"] = values(volume)
        return self._volume("ensure")

    def initialize_connection(self, volume: Any, connector: Any) -> dict[str, Any]:
        self.seen["connect"] = {**values(volume), "admin_metadata": volume.admin_metadata}
        # As many drivers do, without returning it.
        volume.metadata = {**volume.metadata, "mapped": "yes"}
        volume.save()
        return super().initialize_connection(volume, connector)

    def extend_volume(self, volume: Any, new_size: int) -> None:
        self.seen["extend"] = values(volume)
        super().extend_volume(volume, new_size)

    def delete_volume(self, volume: Any) -> None:
        self.seen["delete"] = values(volume)
        super().delete_volume(volume)

    def delete_snapshot(self, snapshot: Any) -> None:
        self.seen["delete_snapshot"] = values(snapshot, ("metadata", "provider_location", "provider_id"))
        super().delete_snapshot(snapshot)

    @classmethod
    def clean_volume_file_locks(cls, volume_id: str) -> None:
        coordination.synchronized_remove(f"probe-{volume_id}")


class NoPoolDriver(FileDriver):
    """Finds no pool on its array."""

    def get_volume_stats(self, refresh: bool = False) -> dict[str, Any]:
        return {**super().get_volume_stats(refresh), "pools": []}


class EmptyDriver(FileDriver):
    """Reports nothing of an array that it cannot reach, as NEC's M-Series driver does."""

    there = False

    def get_volume_stats(self, refresh: bool = False) -> dict[str, Any]:
        stats = super().get_volume_stats(refresh)
        return stats if self.there else {**stats, "total_capacity_gb": 0, "free_capacity_gb": 0}


class NoneDriver(FileDriver):
    """Goes on without its client, as many drivers do after a failed login."""

    def do_setup(self, context: Any) -> None:
        self.client: Any = None
        self.client.login(os.getpid())
