"""A Cinder driver for tests that has pools, each with a size of its own, and counts what is in
them. It never refuses: an overfull pool shows that nobody guarded it.
"""

from __future__ import annotations

import threading
from typing import Any, ClassVar

from cinder.volume import volume_utils

from saltstorage.drivers.file import FileDriver


class PoolDriver(FileDriver):
    """Pools ``a`` (thick), ``b`` (thick, smaller) and ``thin``."""

    POOLS: ClassVar[dict[str, dict[str, Any]]] = {
        "a": {"total_capacity_gb": 100},
        "b": {"total_capacity_gb": 50},
        "thin": {"total_capacity_gb": 10, "thin_provisioning_support": True, "max_over_subscription_ratio": "3.0"},
    }
    asked = 0

    def do_setup(self, context: Any) -> None:
        super().do_setup(context)
        self.guard = threading.Lock()
        self.used = dict.fromkeys(self.POOLS, 0)

    def get_volume_stats(self, refresh: bool = False) -> dict[str, Any]:
        stats = super().get_volume_stats(refresh)
        self.asked += 1
        pools = []
        for name, values in self.POOLS.items():
            used = self.used[name]
            thin = bool(values.get("thin_provisioning_support"))
            free = values["total_capacity_gb"] - (0 if thin else used)
            pool = {"thin_provisioning_support": False, "reserved_percentage": self.configuration.reserved_percentage, **values}
            pools.append({**pool, "pool_name": name, "free_capacity_gb": free, "provisioned_capacity_gb": used})
        return {key: stats[key] for key in ("volume_backend_name", "vendor_name", "driver_version", "storage_protocol")} | {"pools": pools}

    def _count(self, volume: Any, gib: int) -> None:
        with self.guard:
            self.used[volume_utils.extract_host(volume.host, "pool")] += gib

    def create_volume(self, volume: Any) -> None:
        super().create_volume(volume)
        self._count(volume, volume.size)

    def create_cloned_volume(self, volume: Any, src_vref: Any) -> None:
        super().create_cloned_volume(volume, src_vref)
        self._count(volume, volume.size)

    def extend_volume(self, volume: Any, new_size: int) -> None:
        super().extend_volume(volume, new_size)
        self._count(volume, new_size - volume.size)

    def delete_volume(self, volume: Any) -> None:
        super().delete_volume(volume)
        self._count(volume, -volume.size)


class SmallDriver(PoolDriver):
    """One pool, of which eight volumes of 1 GiB fit."""

    POOLS: ClassVar[dict[str, dict[str, Any]]] = {"only": {"total_capacity_gb": 8}}


class SilentDriver(PoolDriver):
    """A thin pool that reports no provisioned capacity."""

    POOLS: ClassVar[dict[str, dict[str, Any]]] = {"thin": PoolDriver.POOLS["thin"]}

    def get_volume_stats(self, refresh: bool = False) -> dict[str, Any]:
        stats = super().get_volume_stats(refresh)
        for pool in stats["pools"]:
            del pool["provisioned_capacity_gb"]
        return stats


class SteppingDriver(FileDriver):
    """Delivers volumes in steps of 8 GiB."""

    def create_volume(self, volume: Any) -> dict[str, Any]:
        super().create_volume(volume)
        return {"size": -(-volume.size // 8) * 8}


class ShortDriver(FileDriver):
    """Delivers less than was asked for."""

    def create_volume(self, volume: Any) -> dict[str, Any]:
        super().create_volume(volume)
        return {"size": volume.size - 1}
