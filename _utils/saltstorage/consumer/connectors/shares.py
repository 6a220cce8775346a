"""Shares: network file systems whose files are volumes.

os-brick mounts a share for the first volume on it, and leaves it mounted.  This module unmounts it
after the last volume.  The kernel knows the last: it refuses to unmount a share while a loop
device has a file of it open.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator, Mapping
from typing import Any

from ...errors import StorageError
from ..devices import mounts
from ..host import commands
from ..host.config import ConsumerConfig
from ..host.locks import VolumeLocks

#: Protocols (``driver_volume_type``) for which os-brick mounts a share.
PROTOCOLS = ("nfs", "glusterfs", "quobyte", "smbfs", "vzstorage", "scality")

log = logging.getLogger(__name__)


class Shares:
    """The shares that volumes of this host are on.

    :ivar mount_base: directory under which they are mounted.
    """

    def __init__(self, config: ConsumerConfig) -> None:
        self.mount_base = os.path.join(config.state_dir, "mnt")
        self._timeout = config.step_timeout
        # The timeout is as long as the mount that another volume waits for may take.
        self._locks = VolumeLocks(os.path.join(config.state_dir, "locks", "shares"), config.step_timeout, "the share")

    @contextlib.contextmanager
    def hold(self, connection_info: Mapping[str, Any]) -> Iterator[None]:
        """Keep the share of a volume mounted until its file is open, even if another volume leaves.

        Volumes of other protocols pass.
        """
        share = self._share(connection_info)
        if share is None:
            yield
            return
        with self._locks.hold(share):
            yield

    def leave(self, connection_info: Mapping[str, Any], mount_point: str) -> None:
        """Unmount the share of a volume that has been detached, unless another volume is on it.

        :param mount_point: where it is mounted.
        """
        share = self._share(connection_info)
        if share is None:
            return
        with self._locks.hold(share):
            if self._is_mounted(mount_point):
                # The command fails when another volume has a file open there.
                with contextlib.suppress(StorageError):
                    commands.run("unmount the share", ["umount", mount_point], timeout=self._timeout)
            if self._is_mounted(mount_point):
                log.debug("storage: %s stays mounted on %s", share, mount_point)
                return
            with contextlib.suppress(OSError):
                os.rmdir(mount_point)

    @staticmethod
    def _share(connection_info: Mapping[str, Any]) -> str | None:
        return str(connection_info["data"].get("export")) if connection_info.get("driver_volume_type") in PROTOCOLS else None

    @staticmethod
    def _is_mounted(mount_point: str) -> bool:
        # The kernel's table is read: a look at the directory itself would wait for a server that
        # is down.
        path = os.path.join(os.path.realpath(os.path.dirname(mount_point)), os.path.basename(mount_point))
        return any(mount.path == path for mount in mounts.read())
