"""Mount points that were created on this host, and go again with the mount."""

from __future__ import annotations

import contextlib
import os

from ..errors import FailedPreconditionError
from .localhost import LocalHost


class MountPoints:
    """Creates and removes the directories that volumes are mounted on.

    :param host: this host.
    """

    def __init__(self, host: LocalHost) -> None:
        self._host = host

    def add(self, name: str, path: str) -> bool:
        """Create a directory to mount a volume on, record that, and return whether it was created.

        A directory that exists is not recorded, and so never removed.

        :raises FailedPreconditionError: something else is in the way, or the directory cannot be
            created.
        """
        with self._host.lock(name):
            record, _, _ = self._host.load_attached(name)
            if os.path.isdir(path):
                return False
            there = path
            while not os.path.lexists(there):
                there = os.path.dirname(there)
            if not os.path.isdir(there):
                raise FailedPreconditionError(f"{there} is no directory, and is in the way of the mount point {path}", field="mount")
            self._host.records.save(record.replace(mount_points=tuple(dict.fromkeys((*record.mount_points, path)))))
            try:
                os.makedirs(path, mode=0o755)
            except OSError as error:
                self._host.records.save(record)
                raise FailedPreconditionError(f"the mount point {path} cannot be created: {error.strerror}", field="mount") from None
            return True

    def remove_all(self, name: str) -> list[str]:
        """Remove the directories that were created to mount a volume on, and return them.

        A directory that is not empty stays.
        """
        with self._host.lock(name):
            record = self._host.records.load(name)
            if record is None or not record.mount_points:
                return []
            removed = []
            for path in record.mount_points:
                with contextlib.suppress(OSError):
                    os.rmdir(path)
                    removed.append(path)
            self._host.records.save(record.replace(mount_points=()))
            return removed
