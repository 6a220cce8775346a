"""A Cinder driver whose volumes are sparse files in a directory of the machine it runs on.

It needs nothing but a file system, so it is the backend of the demo and of the tests, and it is
useful by itself on one machine. Copies share their blocks where the file system can (XFS, Btrfs,
bcachefs: ``FICLONE``), else they are sparse copies. The consumer on the same machine makes a loop
device over the file, and so finds it again after a reboot without the controller. Other machines
cannot reach these volumes; :mod:`.file_iscsi` adds iSCSI targets. It has a class of its own, as
other vendors' drivers do, since Cinder's option ``target_protocol`` is ``iscsi`` for every driver
when nobody sets it.
"""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cinder import exception, interface
from cinder.common import constants
from cinder.volume import configuration, driver, volume_utils
from oslo_config import cfg

from .files import sparse
from .files.manage import ManageableFiles

GIB = 2**30

file_opts: list[cfg.Opt] = [
    cfg.StrOpt(
        "file_driver_path",
        required=True,
        help="Absolute path of the directory that holds the volumes. Created with mode 0700 when it does not exist.",
    ),
]

cfg.CONF.register_opts(file_opts, group=configuration.SHARED_CONF_GROUP)


class NoSpace(exception.NoValidBackend):
    """The directory's file system has no room, or would be over-subscribed too much."""

    message = "Not enough space: %(reason)s"


@interface.volumedriver
class FileDriver(ManageableFiles, driver.VolumeDriver):
    """Volumes as sparse files in a directory, attached on the same machine."""

    VERSION = "1.0.0"
    VENDOR = "Salt storage formula"
    PROTOCOL = constants.FILE

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.configuration.append_config_values(file_opts)
        self.folder = Path()
        # Held from the look at the free space until the space is taken.
        self._space_lock = threading.Lock()

    @staticmethod
    def get_driver_options() -> list[cfg.Opt]:
        """Return the options that this driver adds to those of every driver."""
        return file_opts

    @classmethod
    def refused_options(cls, options: Mapping[str, Any]) -> dict[str, str]:
        """Return the options that would have no effect, and why: they are for volumes that other
        hosts reach.
        """
        names = ("target_protocol", "target_helper", "target_ip_address", "target_secondary_ip_addresses", "use_chap_auth")
        why = "has no effect: this driver serves this machine alone; FileISCSIDriver, in the module file_iscsi, serves others"
        return {name: why for name in names if name in options}

    def do_setup(self, context: Any) -> None:
        """Create the directory where need be."""
        path = self.configuration.file_driver_path
        if not path or not os.path.isabs(path):
            raise exception.InvalidConfigurationValue(option="file_driver_path", value=path)
        self.folder = Path(path)
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except FileExistsError:
            raise exception.InvalidConfigurationValue(f"file_driver_path {path} is not a directory") from None
        except OSError as error:
            raise exception.InvalidConfigurationValue(f"file_driver_path {path} cannot be created: {error.strerror}") from None
        self._device = self.folder.stat().st_dev

    def check_for_setup_error(self) -> None:
        """Refuse a directory in which others could exchange a volume, or in which nothing can be
        written.

        The remains of interrupted copies are removed.
        """
        mode = self.folder.stat().st_mode
        if mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise exception.InvalidConfigurationValue(f"file_driver_path {self.folder} can be written by others; chmod 0700 it")
        if not os.access(self.folder, os.W_OK | os.X_OK):
            raise exception.InvalidConfigurationValue(f"file_driver_path {self.folder} cannot be written by the controller")
        volume_utils.get_max_over_subscription_ratio(self.configuration.max_over_subscription_ratio)
        sparse.remove_leftovers(self.folder)

    def create_volume(self, volume: Any) -> None:
        """Create a sparse file of the volume's size."""
        with self._space_lock:
            self._require_room(volume.size)
            sparse.create(self._file(volume), volume.size * GIB)

    def delete_volume(self, volume: Any) -> None:
        """Remove the file, or raise VolumeNotFound when there is none."""
        if not self._remove(volume, exception.VolumeIsBusy(volume_name=volume.name)):
            raise exception.VolumeNotFound(volume_id=volume.id)

    def extend_volume(self, volume: Any, new_size: int) -> None:
        """Make the file longer; a consumer that has a loop device over it refreshes that device's
        size itself.
        """
        path = self._existing(volume)
        with self._space_lock:
            self._require_room(new_size - path.stat().st_size // GIB)
            sparse.grow(path, new_size * GIB)

    def create_cloned_volume(self, volume: Any, src_vref: Any) -> None:
        """Create a volume as a copy of another."""
        self._copy(src_vref, volume, volume.size, live=src_vref.status == "in-use")

    def create_volume_from_snapshot(self, volume: Any, snapshot: Any) -> None:
        """Create a volume as a copy of a snapshot."""
        self._copy(snapshot, volume, volume.size)

    def create_snapshot(self, snapshot: Any) -> None:
        """Take a snapshot: a copy that nothing writes to."""
        self._copy(snapshot.volume, snapshot, snapshot.volume_size, live=snapshot.volume.status == "in-use")

    def delete_snapshot(self, snapshot: Any) -> None:
        """Remove the file of a snapshot, if it is there."""
        if not self._remove(snapshot, exception.SnapshotIsBusy(snapshot_name=snapshot.name)):
            raise exception.SnapshotNotFound(snapshot_id=snapshot.id)

    def revert_to_snapshot(self, context: Any, volume: Any, snapshot: Any) -> None:
        """Exchange the volume's file for a copy of the snapshot's: the volume has the one content
        or the other, never a mixture.
        """
        self._copy(snapshot, volume, volume.size, replace=True)

    def create_export(self, context: Any, volume: Any, connector: Any) -> dict[str, Any] | None:
        """Do nothing: a consumer on this machine opens the file."""
        return None

    def ensure_export(self, context: Any, volume: Any) -> dict[str, Any] | None:
        """Check that the file is there."""
        self._existing(volume)
        return None

    def remove_export(self, context: Any, volume: Any) -> None:
        """Do nothing, as :meth:`create_export`."""

    def initialize_connection(self, volume: Any, connector: Any) -> dict[str, Any]:
        """Return the path of the file, for a loop device::

        {"driver_volume_type": "local", "data": {"device_path": "/srv/volumes/volume-1"}}
        """
        return {"driver_volume_type": "local", "data": {"device_path": str(self._existing(volume))}}

    def terminate_connection(self, volume: Any, connector: Any, **kwargs: Any) -> bool | None:
        """Do nothing: the consumer has removed its loop device."""
        return None

    def _update_volume_stats(self) -> None:
        total, free = self._capacity()
        self._stats = {
            "volume_backend_name": self.configuration.safe_get("volume_backend_name") or "file",
            "vendor_name": self.VENDOR,
            "driver_version": self.VERSION,
            "storage_protocol": self.PROTOCOL,
            "total_capacity_gb": round(total / GIB, 2),
            "free_capacity_gb": round(free / GIB, 2),
            "provisioned_capacity_gb": round(sparse.sum_sizes(self.folder) / GIB, 2),
            "reserved_percentage": self.configuration.reserved_percentage,
            "max_over_subscription_ratio": self.configuration.max_over_subscription_ratio,
            "thin_provisioning_support": True,
            "thick_provisioning_support": False,
            "multiattach": True,
            "online_extend_support": True,
            "sparse_copy_volume": True,
        }

    def _file(self, item: Any) -> Path:
        return self.folder / str(item.name)

    def _existing(self, volume: Any) -> Path:
        path = self._file(volume)
        if not path.is_file():
            raise exception.VolumeNotFound(volume_id=volume.id)
        return path

    def _capacity(self) -> tuple[int, int]:
        """Return total and free bytes.

        Refuse a folder that is not the one of the start: without its file system, new volumes would
        be made below the mount point.
        """
        try:
            device, info = self.folder.stat().st_dev, os.statvfs(self.folder)
        except OSError as error:
            raise exception.VolumeBackendAPIException(data=f"file_driver_path {self.folder}: {error.strerror}") from None
        if device != self._device:
            raise exception.VolumeBackendAPIException(
                data=f"file_driver_path {self.folder} is on another file system than when the driver was loaded; mount the right one"
            )
        return info.f_blocks * info.f_frsize, info.f_bavail * info.f_frsize

    def _require_room(self, size: int) -> None:
        """Refuse ``size`` more GiB where Cinder's scheduler would: over the ratio of the total or
        of the free space.
        """
        if size <= 0:
            return
        total, free = self._capacity()
        free = max(0, free - total * (self.configuration.reserved_percentage or 0) // 100)
        ratio = float(volume_utils.get_max_over_subscription_ratio(self.configuration.max_over_subscription_ratio))
        room = min(total * ratio - sparse.sum_sizes(self.folder), free * ratio)
        if size * GIB > room:
            raise NoSpace(
                reason=f"{size} GiB more are needed and {max(0, int(room / GIB))} GiB can be promised in {self.folder}"
                f" ({free / GIB:.1f} GiB free, max_over_subscription_ratio {ratio:g})"
            )

    def _copy(self, source: Any, target: Any, size: int, *, live: bool = False, replace: bool = False) -> None:
        origin = self._existing(source)
        if replace:
            if sparse.has_loop_device(self._existing(target)):
                raise exception.VolumeIsBusy(volume_name=target.name)
        else:
            with self._space_lock:
                self._require_room(size)
        try:
            sparse.copy(origin, self._file(target), size * GIB, spare=self._capacity()[1], atomic=live, replace=replace)
        except sparse.NoRoom as error:
            raise NoSpace(
                reason=f"a copy needs {error.needed / GIB:.1f} GiB and {error.spare / GIB:.1f} GiB are free in {self.folder}"
            ) from None
        except sparse.NotAtomic:
            raise exception.InvalidVolume(
                reason=f"the volume {source.display_name!r} is connected, and the file system of {self.folder} cannot copy it"
                " at one moment; disconnect it first, or put file_driver_path on XFS or Btrfs"
            ) from None

    def _remove(self, item: Any, busy: Exception) -> bool:
        path = self._file(item)
        if sparse.has_loop_device(path):
            raise busy
        existed = path.exists()
        sparse.remove(path)
        return existed
