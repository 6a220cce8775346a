"""The common part of drivers that export volumes of this machine over iSCSI: one target a volume,
with random CHAP credentials, open to the hosts that the volume is connected to.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from cinder import exception
from cinder.volume import volume_utils

from ...controller.cinder import logs

#: Names in the form of RFC 3720, 3.2.6, but ASCII only: they stand in files that root's tools
#: read.
_INITIATOR = re.compile(r"(iqn\.|eui\.|naa\.)[A-Za-z0-9.:_-]{1,219}")


def refused_options(options: Mapping[str, Any], helpers: Mapping[str, Any], default_helper: str) -> dict[str, str]:
    """Return the options that make no sense for such a driver, and why.

    :param helpers: the values that ``target_helper`` may have.
    """
    refused = {}
    if not options.get("target_ip_address"):
        refused["target_ip_address"] = "the address under which the hosts reach this machine, is missing"
    if options.get("target_helper", default_helper) not in helpers:
        refused["target_helper"] = f"must be one of {', '.join(sorted(helpers))}"
    if options.get("target_protocol", "iscsi") != "iscsi":
        refused["target_protocol"] = "can only be iscsi"
    if options.get("use_chap_auth", True) is not True:
        refused["use_chap_auth"] = "cannot be turned off: each volume has CHAP credentials of its own"
    for name in ("chap_username", "chap_password"):
        if options.get(name):
            refused[name] = "is not used: each volume has random credentials of its own"
    return refused


class Exports:
    """The methods of a Cinder driver that concern exports and connections; goes before the
    driver's class.

    The driver has ``configuration``; ``target``, the target helper, such as
    :class:`.lio.LioTarget`; ``_existing(volume)``, the path of a volume's file or device, which
    raises VolumeNotFound when there is none; and ``_place(volume)``, the path that it has or would
    have.
    """

    configuration: Any
    target: Any
    _existing: Callable[[Any], Path]
    _place: Callable[[Any], Path]

    def validate_connector(self, connector: Mapping[str, Any]) -> None:
        """Refuse a host without an iSCSI initiator name."""
        name = connector.get("initiator")
        if not name:
            raise exception.InvalidConnectorException(missing="initiator")
        if not isinstance(name, str) or not _INITIATOR.fullmatch(name):
            raise exception.InvalidInput(
                reason="the host's iSCSI initiator name is not one: iqn., eui. or naa. and ASCII letters, digits, .:-_"
            )
        if not self.target.INITIATOR.fullmatch(name):
            raise exception.InvalidInput(
                reason="the kernel's target takes no such iSCSI initiator name as the host's; give it one like"
                " iqn.2024-01.org.example:host, with a domain of two parts and no underscore (/etc/iscsi/initiatorname.iscsi)"
            )

    def create_export(self, context: Any, volume: Any, connector: Any) -> dict[str, Any]:
        """Return address and credentials, to be recorded before there is a target: so it can be
        made again the same.
        """
        auth = volume.provider_auth
        if not auth:
            auth = f"CHAP {volume_utils.generate_username()} {volume_utils.generate_password()}"
        logs.keep_secrets(volume.id, [auth.split()[2]])
        return {"provider_location": self._location(volume), "provider_auth": auth}

    def ensure_export(self, context: Any, volume: Any) -> dict[str, Any]:
        """Make the target of a volume as it was, open to the same hosts with the same
        credentials.
        """
        try:
            path = self._existing(volume)
            changes = self.create_export(context, volume, None)
            volume.provider_auth = changes["provider_auth"]
            self.target.expose(volume, path, _initiators(volume))
        except Exception:
            # The caller repeats this call by itself. A target that counts as lost would have all
            # restored each time.
            self.target.give_up(volume)
            raise
        return changes

    def remove_export(self, context: Any, volume: Any) -> None:
        """Remove the target with its sessions, and forget the credentials."""
        self.target.withdraw(volume, self._place(volume))
        volume.provider_auth = volume.provider_location = None

    def initialize_connection(self, volume: Any, connector: Mapping[str, Any]) -> dict[str, Any]:
        """Open the volume's target to a host, and return the connection information::

            {"driver_volume_type": "iscsi", "data": { "target_portal": "192.0.2.10:3260",
                "target_iqn": "iqn.2010-10.org.openstack:volume-1", "target_lun": 1, "auth_method":
                "CHAP", "auth_username": "…", "auth_password": "…", "discard": True, }}

        With secondary addresses, it also has ``target_portals``, ``target_iqns`` and
        ``target_luns``.
        """
        self.target.expose(volume, self._existing(volume), {*_initiators(volume), connector["initiator"]})
        data = self.target._get_iscsi_properties(volume, bool(connector.get("multipath")))
        return {"driver_volume_type": "iscsi", "data": {**data, "discard": self.target.DISCARD}}

    def terminate_connection(self, volume: Any, connector: Mapping[str, Any], **kwargs: Any) -> bool:
        """Close the target to a host and cut its sessions; return True when another connection of
        the same initiator remains.
        """
        left = _initiators(volume)
        with_name = connector.get("initiator")
        if with_name in left:
            left.remove(with_name)
        # With none left, remove_export follows; without credentials there is no target.
        if left and volume.provider_auth:
            self.target.expose(volume, self._existing(volume), left)
        return with_name in left

    def exports_intact(self) -> bool:
        """Return whether all recorded targets are live: False after a restart of tgtd alone, or
        ``targetctl clear``.
        """
        intact: bool = self.target.intact()
        return intact

    def _location(self, volume: Any) -> str:
        settings = self.configuration
        name = f"{settings.target_prefix}{volume.name}"
        return str(
            self.target._iscsi_location(
                settings.target_ip_address, 1, name, self.target.LUN, list(settings.target_secondary_ip_addresses or [])
            )
        )


def _initiators(volume: Any) -> list[str]:
    """Return the initiator of each connection of a volume, connections in the making included."""
    connectors = [attachment.connector or {} for attachment in volume.volume_attachment]
    return [connector["initiator"] for connector in connectors if connector.get("initiator")]
