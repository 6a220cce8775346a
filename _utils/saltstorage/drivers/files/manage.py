"""The part of the file driver that takes over existing files of its directory, and lets
them go.
"""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import Any

from cinder import exception
from cinder.volume import volume_utils

from . import sparse

GIB = 2**30
#: The names that the driver gives to files; any other name is somebody else's.
_OURS = re.compile(r"(volume|snapshot)-([0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12})")


class ManageableFiles:
    """Lists, takes over and lets go of files. Mixed into the driver, which knows the directory."""

    folder: Path

    def get_manageable_volumes(
        self, cinder_volumes: Any, marker: Any, limit: Any, offset: Any, sort_keys: Any, sort_dirs: Any
    ) -> list[dict[str, Any]]:
        """Return every regular file of the directory that is no snapshot."""
        entries = self._list_files({volume.id for volume in cinder_volumes}, "volume")
        return list(volume_utils.paginate_entries_list(entries, marker, limit, offset, sort_keys, sort_dirs))

    def get_manageable_snapshots(
        self, cinder_snapshots: Any, marker: Any, limit: Any, offset: Any, sort_keys: Any, sort_dirs: Any
    ) -> list[dict[str, Any]]:
        """Return the files of snapshots."""
        entries = self._list_files({snapshot.id for snapshot in cinder_snapshots}, "snapshot")
        return list(volume_utils.paginate_entries_list(entries, marker, limit, offset, sort_keys, sort_dirs))

    def manage_existing_get_size(self, volume: Any, existing_ref: dict[str, Any]) -> int:
        """Return the size of a file in GiB, rounded up."""
        return -(-self._find_file(existing_ref).stat().st_size // GIB)

    def manage_existing(self, volume: Any, existing_ref: dict[str, Any]) -> None:
        """Rename a file to the volume's name, and round its size up to whole GiB: a smaller size
        than promised would not do.
        """
        path = self._find_file(existing_ref)
        if sparse.has_loop_device(path):
            raise exception.VolumeIsBusy(volume_name=path.name)
        target = self.folder / str(volume.name)
        if path != target:
            sparse.rename(path, target)
        os.chmod(target, 0o600)
        sparse.grow(target, -(-target.stat().st_size // GIB) * GIB)

    def unmanage(self, volume: Any) -> None:
        """Leave the file as it is, under the volume's name."""

    def _list_files(self, known: set[str], kind: str) -> list[dict[str, Any]]:
        entries = []
        for path in sorted(self.folder.iterdir()):
            try:
                facts = path.lstat()
            except FileNotFoundError:  # deleted or renamed just now, for another volume
                continue
            # Hidden files are copies that are being made.
            if not stat.S_ISREG(facts.st_mode) or path.name.startswith("."):
                continue
            match = _OURS.fullmatch(path.name)
            if (match[1] if match else "volume") != kind:
                continue
            managed = bool(match and match[2] in known)
            why = (
                "already managed" if managed else "it is in use" if sparse.has_loop_device(path) else "" if facts.st_size else "it is empty"
            )
            entries.append(
                {
                    "reference": {"source-name": path.name},
                    "size": -(-facts.st_size // GIB),
                    "safe_to_manage": not why,
                    "reason_not_safe": why or None,
                    "cinder_id": match[2] if match and managed else None,
                    "extra_info": None,
                }
            )
        return entries

    def _find_file(self, reference: dict[str, Any]) -> Path:
        """Return the file that a reference names: a regular file in the directory itself, and no
        link out of it.
        """
        name = reference.get("source-name")
        if not isinstance(name, str) or set(reference) != {"source-name"}:
            raise exception.ManageExistingInvalidReference(existing_ref=reference, reason="give {'source-name': NAME OF THE FILE}")
        path = self.folder / name
        if not name or "/" in name or "\0" in name or name.startswith(".") or not path.is_file() or path.is_symlink():
            raise exception.ManageExistingInvalidReference(existing_ref=reference, reason=f"there is no such file in {self.folder}")
        if not path.stat().st_size:
            raise exception.ManageExistingInvalidReference(existing_ref=reference, reason="the file is empty")
        return path
