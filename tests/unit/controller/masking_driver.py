"""A Cinder driver whose array masks each volume by initiators and outlives processes: one file
for each initiator that is let in.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cinder import exception

from saltstorage.drivers.file import FileDriver


def _names(connector: Any) -> list[str]:
    return connector.get("wwpns") or [connector["initiator"]]


class MaskingDriver(FileDriver):
    """Lets an initiator in, or keeps it out, only when asked to: an export has nothing to remove,
    as on many arrays.
    """

    #: None that is known: it has iSCSI and Fibre Channel.
    PROTOCOL = "both"

    def validate_connector(self, connector: Any) -> None:
        if not connector.get("wwpns") and not connector.get("initiator"):
            raise exception.InvalidConnectorException(missing="initiator")

    def create_export(self, context: Any, volume: Any, connector: Any) -> None:
        """Do nothing."""

    def remove_export(self, context: Any, volume: Any) -> None:
        """Do nothing."""

    def initialize_connection(self, volume: Any, connector: Any) -> dict[str, Any]:
        for name in _names(connector):
            self._mask(volume, name).touch()
        return {"driver_volume_type": "fibre_channel" if connector.get("wwpns") else "iscsi", "data": {"target_lun": 1}}

    def terminate_connection(self, volume: Any, connector: Any, **kwargs: Any) -> None:
        for name in _names(connector):
            self._mask(volume, name).unlink(missing_ok=True)

    def _mask(self, volume: Any, name: str) -> Path:
        return Path(self.configuration.file_driver_path) / f"mapped-{volume.id}-{name}"
