"""iSCSI targets of the kernel (LIO), one a volume, over its device, or over a loop device over its
file.

Nothing is saved for the kernel's own boot service: the numbers of loop devices change, so a
restored target could be over another volume. The storage engine restores the targets from its
metadata, after a boot and when it misses a target. For each target that was made, an empty file
``volume-<uuid>.target`` stands in a folder of the backend's, beside those of :mod:`.tgt`.
"""

from __future__ import annotations

import contextlib
import json
import re
import sys
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from cinder import exception, utils
from cinder.volume.targets import lio
from oslo_concurrency import lockutils, processutils

_PROGRAM = Path(__file__).with_name("lio_root.py")


class LioTarget(lio.LioAdm):
    """``target_helper: lioadm``."""

    LUN = 0
    DISCARD = True
    #: The names that rtslib accepts; the kernel and the RFC accept more.
    INITIATOR = re.compile(r"iqn\.[0-9]{4}-[01][0-9]\.[^_]*\.[^_]*|naa\.[125c-f][0-9a-f]{15}|eui\.[0-9a-f]{16}", re.IGNORECASE)

    def _verify_rtstool(self) -> None:
        """Do not look for ``cinder-rtstool``, which is not used."""

    def check(self) -> None:
        """Refuse to start on a kernel without LIO; prepare the directory of the names.

        :raises VolumeDriverException: the kernel has none.
        :raises NoRootWrapSpecified: the controller is not root.
        """
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._lock():
            self._ask("check")

    def intact(self) -> bool:
        """Return whether every target that was made is live and enabled.

        It is False after ``targetctl clear``, which a service may call.
        """
        # The names are read under the lock, so a target in the making or in removal does not count
        # as missing.
        with self._lock():
            names = [self._name(path.stem) for path in self.folder.glob("*.target")]
            return not names or json.loads(self._ask("find_lost", names=names)) == []

    def give_up(self, volume: Any) -> None:
        """Stop missing the target of a volume, until it is made again."""
        self._file(volume).unlink(missing_ok=True)

    def expose(self, volume: Any, path: Path, initiators: Collection[str]) -> None:
        """Make the target, open to these initiators alone; sessions of others are cut."""
        _method, user, password = volume.provider_auth.split()
        settings = self.configuration
        with self._lock():
            self._ask(
                "expose",
                **self._place(volume, path),
                serial=volume.id,
                user=user,
                password=password,
                initiators=sorted(initiators),
                portals=[settings.target_ip_address, *(settings.target_secondary_ip_addresses or [])],
                port=settings.target_port,
            )
            self._file(volume).touch(mode=0o600)

    def withdraw(self, volume: Any, path: Path) -> None:
        """Remove the target with its sessions, and the loop device."""
        with self._lock():
            self._file(volume).unlink(missing_ok=True)
            self._ask("withdraw", **self._place(volume, path))

    def grow(self, volume: Any, path: Path) -> None:
        """Have the target show the present size of the file."""
        with self._lock():
            self._ask("grow", **self._place(volume, path))

    def _place(self, volume: Any, path: Path) -> dict[str, str]:
        return {"name": self._name(volume.name), "volume": volume.name, "path": str(path)}

    def _name(self, volume_name: str) -> str:
        return f"{self.configuration.target_prefix}{volume_name}"

    @property
    def folder(self) -> Path:
        """Directory of the files that name the targets of this backend."""
        # One folder a backend: its files are the targets that this backend has to restore.
        return Path(self.configuration.volumes_dir, self.configuration.config_group)

    def _file(self, volume: Any) -> Path:
        return self.folder / f"{volume.name}.target"

    @staticmethod
    @contextlib.contextmanager
    def _lock() -> Iterator[None]:
        """Keep other threads and processes from asking meanwhile: rtslib does not bear two
        processes at once.
        """
        with lockutils.lock("storage-lio", external=True):
            yield

    @staticmethod
    def _ask(operation: str, **request: Any) -> str:
        try:
            asked = json.dumps({"do": operation, **request})
            return str(utils.execute(sys.executable, str(_PROGRAM), process_input=asked.encode(), run_as_root=True)[0])
        except processutils.ProcessExecutionError as error:
            raise exception.VolumeDriverException(f"LIO, the kernel's iSCSI target, failed: {str(error.stderr).strip()[:300]}") from None
