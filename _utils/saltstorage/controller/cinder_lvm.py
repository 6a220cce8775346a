"""Cinder's LVM driver, made to finish an extension that was cut off.

``lvextend`` fails when the logical volume has the size already.  So an extension that is repeated after the controller was killed, or
after the target could not be told of the new size, failed for ever (seen with Cinder 29).
"""

from __future__ import annotations

from typing import Any

from cinder.volume.drivers import lvm


class LVMVolumeDriver(lvm.LVMVolumeDriver):
    """Extends a logical volume only when it is smaller than wanted, and tells its target either way."""

    def extend_volume(self, volume: Any, new_size: int) -> None:
        """Grow the logical volume unless it has the size already, and have the target show it."""
        found = self.vg.get_volume(volume.name)
        # In GiB with two decimals, perhaps rounded up; what is missing is about a GiB at least.
        if found is None or float(found["size"]) < new_size:
            super().extend_volume(volume, new_size)
            return
        # A thick one with snapshots is inactive while it is extended.
        self.vg.activate_lv(volume.name)
        self.target_driver.extend_target(volume)
