"""A Cinder driver for tests that says that it is a Fibre Channel array, and has zones made as
vendors' drivers do.
"""

from __future__ import annotations

from typing import Any

from cinder.zonemanager import utils

from saltstorage.drivers.file import FileDriver

TARGETS = ["5000000000000001", "5000000000000002"]


class FibreDriver(FileDriver):
    """Has one port in each of two fabrics."""

    def get_volume_stats(self, refresh: bool = False) -> dict[str, Any]:
        return {**super().get_volume_stats(refresh), "storage_protocol": "FC"}

    def do_setup(self, context: Any) -> None:
        super().do_setup(context)
        self.mapped: dict[str, set[str]] = {}
        self.lookup = utils.create_lookup_service()

    def validate_connector(self, connector: Any) -> None:
        pass

    def initialize_connection(self, volume: Any, connector: Any) -> dict[str, Any]:
        self.mapped.setdefault(connector["host"], set()).add(volume.id)
        answer = self._answer(connector)
        utils.add_fc_zone(answer)
        return answer

    def terminate_connection(self, volume: Any, connector: Any, **kwargs: Any) -> Any:
        volumes = self.mapped.setdefault(connector["host"], set())
        volumes.discard(volume.id)
        if volumes:
            return {"driver_volume_type": "fibre_channel", "data": {}}
        answer = self._answer(connector)
        utils.remove_fc_zone(answer)
        return answer

    def _answer(self, connector: Any) -> dict[str, Any]:
        found = {initiator: list(TARGETS) for initiator in connector["wwpns"]}
        if self.lookup is not None:
            fabrics = self.lookup.get_device_mapping_from_network(connector["wwpns"], TARGETS).values()
            found = {port: fabric["target_port_wwn_list"] for fabric in fabrics for port in fabric["initiator_port_wwn_list"]}
        return {"driver_volume_type": "fibre_channel", "data": {"target_lun": 1, "target_wwn": TARGETS, "initiator_target_map": found}}
