"""The file driver for many hosts: volumes are sparse files on this machine, which exports each as an iSCSI target of its own."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from cinder import exception, interface
from cinder.common import constants
from cinder.volume import driver, volume_utils

from .. import cinder_logging
from .file import FileDriver
from .lio import LioTarget
from .tgt import TgtTarget

#: Names as RFC 3720, 3.2.6 has them, less what is not ASCII: they stand in files that are read by root's tools.
_INITIATOR = re.compile(r"(iqn\.|eui\.|naa\.)[A-Za-z0-9.:_-]{1,219}")

_PATH = re.compile(r"[A-Za-z0-9/._+@-]+")


@interface.volumedriver
class FileISCSIDriver(FileDriver):
    """Volumes as sparse files in a directory, exported over iSCSI by this machine.

    ``target_ip_address`` is required. ``target_helper`` is ``tgtadm`` (the default; in user space, package tgt) or ``lioadm`` (the
    kernel's LIO). A target is visible and open only to the hosts that the volume is connected to, always with CHAP, by a name and
    password that are drawn at random when a volume is first connected and forgotten when no host is left.
    """

    PROTOCOL = constants.ISCSI
    TARGETS: Mapping[str, type[Any]] = {"tgtadm": TgtTarget, "lioadm": LioTarget}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._target: Any = None

    @classmethod
    def refused_options(cls, options: Mapping[str, Any]) -> dict[str, str]:
        """Return the options that make no sense here, and why."""
        refused = {}
        if not options.get("target_ip_address"):
            refused["target_ip_address"] = "the address under which the hosts reach this machine, is missing"
        path = options.get("file_driver_path")
        if isinstance(path, str) and not _PATH.fullmatch(path):
            refused["file_driver_path"] = (
                "may have only letters, digits and /._+@- for this driver: it stands in files of the target daemon"
            )
        helper = options.get("target_helper", "tgtadm")
        if helper not in cls.TARGETS:
            refused["target_helper"] = f"must be one of {', '.join(sorted(cls.TARGETS))}"
        if options.get("target_protocol", "iscsi") != "iscsi":
            refused["target_protocol"] = "can only be iscsi"
        if options.get("use_chap_auth", True) is not True:
            refused["use_chap_auth"] = "cannot be turned off: each volume has CHAP credentials of its own"
        for name in ("chap_username", "chap_password"):
            if options.get(name):
                refused[name] = "is not used: each volume has random credentials of its own"
        return refused

    @staticmethod
    def get_driver_options() -> list[Any]:
        """Return the options that this driver adds to those of every driver, and those of targets."""
        names = {"target_ip_address", "target_secondary_ip_addresses", "target_port", "target_helper", "target_prefix", "volumes_dir"}
        names.add("iscsi_write_cache")
        return [*FileDriver.get_driver_options(), *(option for option in driver.volume_opts if option.dest in names)]

    def do_setup(self, context: Any) -> None:
        """Prepare the directory, and look whether the target daemon answers."""
        super().do_setup(context)
        self._target = self.TARGETS[self.configuration.target_helper](configuration=self.configuration)

    def check_for_setup_error(self) -> None:
        """Refuse what :class:`FileDriver` refuses, and a target daemon that does not answer."""
        super().check_for_setup_error()
        self._target.check()

    # Volumes

    def extend_volume(self, volume: Any, new_size: int) -> None:
        """Make the file longer, and have hosts that are connected see it."""
        super().extend_volume(volume, new_size)
        self._target.grow(volume, self._existing(volume))

    # Connections

    def validate_connector(self, connector: Mapping[str, Any]) -> None:
        """Refuse a host without an iSCSI initiator name."""
        name = connector.get("initiator")
        if not name:
            raise exception.InvalidConnectorException(missing="initiator")
        if not isinstance(name, str) or not _INITIATOR.fullmatch(name):
            raise exception.InvalidInput(
                reason="the host's iSCSI initiator name is not one: iqn., eui. or naa. and ASCII letters, digits, .:-_"
            )

    def create_export(self, context: Any, volume: Any, connector: Any) -> dict[str, Any]:
        """Return address and credentials, to be kept before there is a target: one that was made can be made again the same."""
        auth = volume.provider_auth
        if not auth:
            auth = f"CHAP {volume_utils.generate_username()} {volume_utils.generate_password()}"
        cinder_logging.add_secret(auth.split()[2])
        return {"provider_location": self._location(volume), "provider_auth": auth}

    def ensure_export(self, context: Any, volume: Any) -> dict[str, Any]:
        """Make the target of a volume as it was, open to the same hosts with the same credentials."""
        path = self._existing(volume)
        changes = self.create_export(context, volume, None)
        volume.provider_auth = changes["provider_auth"]
        self._target.expose(volume, path, _initiators(volume))
        return changes

    def remove_export(self, context: Any, volume: Any) -> None:
        """Remove the target with its sessions, and forget the credentials."""
        self._target.withdraw(volume, self._file(volume))
        volume.provider_auth = volume.provider_location = None

    def initialize_connection(self, volume: Any, connector: Mapping[str, Any]) -> dict[str, Any]:
        """Open the volume's target to a host.

        :return: ``{"driver_volume_type": "iscsi", "data": {"target_portal": "192.0.2.10:3260", "target_iqn": …, "target_lun": 1,
            "auth_method": "CHAP", "auth_username": …, "auth_password": …, "discard": True, …}}``, with ``target_portals``,
            ``target_iqns`` and ``target_luns`` when there are secondary addresses.
        """
        self._target.expose(volume, self._existing(volume), {*_initiators(volume), connector["initiator"]})
        data = self._target._get_iscsi_properties(volume, bool(connector.get("multipath")))
        return {"driver_volume_type": "iscsi", "data": {**data, "discard": self._target.DISCARD}}

    def terminate_connection(self, volume: Any, connector: Mapping[str, Any], **kwargs: Any) -> bool:
        """Close the target to a host and cut its sessions; return True when another connection of the same initiator remains."""
        left = _initiators(volume)
        with_name = connector.get("initiator")
        if with_name in left:
            left.remove(with_name)
        # With none left, remove_export follows; without credentials there is no target.
        if left and volume.provider_auth:
            self._target.expose(volume, self._existing(volume), left)
        return with_name in left

    def exports_intact(self) -> bool | None:
        """Return whether all targets are there that are meant to be: False after a restart of tgtd alone, None where that cannot be."""
        intact: bool | None = self._target.intact()
        return intact

    # Helpers

    def _location(self, volume: Any) -> str:
        settings = self.configuration
        name = f"{settings.target_prefix}{volume.name}"
        return str(
            self._target._iscsi_location(
                settings.target_ip_address, 1, name, self._target.LUN, list(settings.target_secondary_ip_addresses or [])
            )
        )

    def _update_volume_stats(self) -> None:
        super()._update_volume_stats()
        self._stats["volume_backend_name"] = self.configuration.safe_get("volume_backend_name") or "file_iscsi"


def _initiators(volume: Any) -> list[str]:
    """Return the initiator of each connection of a volume, one that is being made included."""
    connectors = [attachment.connector or {} for attachment in volume.volume_attachment]
    return [connector["initiator"] for connector in connectors if connector.get("initiator")]
