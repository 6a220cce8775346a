"""iSCSI targets of the kernel (LIO), one a volume, over its device, or over a loop device over its file.

Nothing is saved for the kernel's own boot service: the numbers of loop devices change, so what it restored could be a target over
another volume.  The storage engine restores the targets from its metadata.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Collection
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
    #: What rtslib accepts, whatever the kernel and the RFC do.
    INITIATOR = re.compile(r"iqn\.[0-9]{4}-[01][0-9]\.[^_]*\.[^_]*|naa\.[125c-f][0-9a-f]{15}|eui\.[0-9a-f]{16}", re.IGNORECASE)

    def _verify_rtstool(self) -> None:
        """Do not look for ``cinder-rtstool``, which is not used."""

    def check(self) -> None:
        """Refuse to start on a kernel without LIO.

        :raises VolumeDriverException: the kernel has none, or the controller is not root and has no ``root_helper``.
        """
        self._ask("check")

    def intact(self) -> None:
        """Return None: targets in the kernel go only with the machine, and then the controller starts anew too."""

    def expose(self, volume: Any, path: Path, initiators: Collection[str]) -> None:
        """Make the target be there and open to these initiators alone; others that are logged in are cut off."""
        _method, user, password = volume.provider_auth.split()
        settings = self.configuration
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

    def withdraw(self, volume: Any, path: Path) -> None:
        """Remove the target with its sessions, and the loop device."""
        self._ask("withdraw", **self._place(volume, path))

    def grow(self, volume: Any, path: Path) -> None:
        """Have the target show the size that the file has now."""
        self._ask("grow", **self._place(volume, path))

    def _place(self, volume: Any, path: Path) -> dict[str, str]:
        return {"name": self._name(volume.name), "volume": volume.name, "path": str(path)}

    def _name(self, volume_name: str) -> str:
        return f"{self.configuration.target_prefix}{volume_name}"

    @staticmethod
    def _ask(operation: str, **request: Any) -> None:
        try:
            # rtslib does not bear two processes at once.
            with lockutils.lock("storage-lio", external=True):
                asked = json.dumps({"do": operation, **request})
                utils.execute(sys.executable, str(_PROGRAM), process_input=asked.encode(), run_as_root=True)
        except processutils.ProcessExecutionError as error:
            raise exception.VolumeDriverException(f"LIO, the kernel's iSCSI target, failed: {str(error.stderr).strip()[:300]}") from None
