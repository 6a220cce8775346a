"""Cinder's driver for Ceph RBD, made to leave nothing behind.

A clone is made from a snapshot of its origin, ``volume-<clone>.clone_snap``, which the driver
means to remove with the clone. But it first tries to remove the clone's image at once, and returns
when that works. So origins keep these snapshots (seen with Cinder 29). When such an origin is
deleted, it is renamed to ``volume-<origin>.deleted`` and stays for ever.
"""

from __future__ import annotations

from typing import Any

from cinder.volume.drivers import rbd

CLONED = ".clone_snap"
DELETED = ".deleted"


class RBDDriver(rbd.RBDDriver):
    """Removes a clone's snapshot of its origin, and an origin that was kept for its last clone."""

    def _delete_volume(self, volume: Any, client: Any) -> None:
        super()._delete_volume(volume, client)
        origin = volume.source_volid
        if origin is None or self._snapshots(client, volume.name + DELETED) is not None:
            # The image is kept for clones of its own; with the last of them, the driver goes up
            # from it.
            return
        snapshot, name = volume.name + CLONED, volume.name.replace(volume.id, origin)
        for parent in (name, name + DELETED):
            # By name, and not by the image's parent, so that a repetition finishes a deletion that
            # was cut off.
            if snapshot in (self._snapshots(client, parent) or ()):
                self._delete_clone_parent_refs(client, parent, snapshot)

    def _snapshots(self, client: Any, name: str) -> list[str] | None:
        """Return the names of the snapshots of an image; None when there is no such image."""
        try:
            with rbd.RBDVolumeProxy(self, name, read_only=True, client=client.cluster, ioctx=client.ioctx) as image:
                return [snapshot["name"] for snapshot in image.list_snaps()]
        except self.rbd.ImageNotFound:
            return None
