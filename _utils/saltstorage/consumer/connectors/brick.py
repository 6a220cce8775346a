"""The adapter to os-brick, for a Python that has it: the storage environment's.

Only attaching, detaching and growing load os-brick; a look never does.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Mapping
from typing import Any

from ..host import heartbeat
from ..host.config import ConsumerConfig
from . import growing, iscsi, loading, nvme, properties, shares
from .translation import translate_errors


class Brick:
    """os-brick with the settings of one consumer.

    :func:`.connection_info.check` has examples of connection information for each protocol.

    :param config: gives the host's name, the lock path and the multipath settings.
    """

    def __init__(self, config: ConsumerConfig) -> None:
        self.config = config
        self.shares = shares.Shares(config)

    def connector_properties(self) -> dict[str, Any]:
        """Return this host's facts for a controller that maps a volume to it; read once a process.

        :returns: such as ``{"host": "db1", "ip": "10.0.0.5", "initiator":
            "iqn.1994-05.com.redhat:1", "multipath": False, …}``.
        :raises FailedPreconditionError: multipath is enforced and multipathd does not run.
        """
        return copy.deepcopy(properties.read(self.config))

    def connect(self, connection_info: Mapping[str, Any], *, use_multipath: bool) -> dict[str, Any]:
        """Attach and return os-brick's ``device_info``.

        :returns: such as ``{"type": "block", "path": "/dev/sdc", "scsi_wwn": …}``.
        """
        with heartbeat.watch("os-brick", "attach, and wait for the device"), translate_errors("attach", connection_info):
            if nvme.is_nvme(connection_info):
                nvme.check(connection_info["data"])
            data = {**connection_info["data"], "enforce_multipath": use_multipath and self.config.enforce_multipath}
            device_info = self.connector(connection_info, use_multipath).connect_volume(data)
            if connection_info["driver_volume_type"] == "iscsi":
                iscsi.disable_login_at_boot(connection_info["data"])
            return _to_plain(device_info)

    def disconnect(self, connection_info: Mapping[str, Any], device_info: Mapping[str, Any], *, use_multipath: bool, force: bool) -> None:
        """Detach, with the same data that :meth:`connect` got and returned.

        :param force: go on when data cannot be flushed, and lose it.
        """
        with heartbeat.watch("os-brick", "detach"), translate_errors("detach", connection_info):
            connector = self.connector(connection_info, use_multipath)
            if connection_info["driver_volume_type"] == "iscsi":
                iscsi.restore_node_records(connection_info["data"])
            # With force alone, os-brick still raises at the end the errors that it passed over.
            connector.disconnect_volume(dict(connection_info["data"]), dict(device_info) or None, force=force, ignore_errors=force)
            if connection_info["driver_volume_type"] in shares.PROTOCOLS:
                self.shares.leave(connection_info, connector._remotefsclient.get_mount_point(connection_info["data"]["export"]))

    def volume_paths(self, connection_info: Mapping[str, Any], *, use_multipath: bool) -> list[str]:
        """Return the paths at which a volume would appear here, even if another device is there."""
        with translate_errors("look for the device", connection_info):
            connector = self.connector(connection_info, use_multipath)
            # Unlike the others, os-brick's NVMe connector needs a form of its own here.
            data = nvme.properties(connection_info["data"]) if nvme.is_nvme(connection_info) else dict(connection_info["data"])
            return [str(path) for path in connector.get_volume_paths(data)]

    def stays(self, connection_info: Mapping[str, Any]) -> bool:
        """Return whether a volume's device stays until the volume is unmapped.

        It does when other volumes are reached through the same controllers.
        """
        with translate_errors("look for the device", connection_info):
            return nvme.is_nvme(connection_info) and nvme.is_shared(connection_info["data"])

    def clean_up(self, connection_info: Mapping[str, Any]) -> None:
        """Remove the remains of a volume here after it was unmapped; no remains are fine."""
        with translate_errors("clean up", connection_info):
            if nvme.is_nvme(connection_info):
                nvme.clean_up(self.connector(connection_info, False), connection_info["data"])

    def check_extend(self, connection_info: Mapping[str, Any]) -> None:
        """Check, before the volume grows, that :meth:`extend` has all it needs.

        :raises FailedPreconditionError: a program is missing on this host; the message names it.
        """
        growing.check(connection_info)

    def extend(self, connection_info: Mapping[str, Any], *, use_multipath: bool, enough: Callable[[], bool]) -> None:
        """Let every path of an attached volume show the present size.

        os-brick is asked again for up to a minute, until ``enough`` returns True; see
        :func:`.growing.repeat`.

        :raises UnavailableError: paths are down.
        """
        growing.repeat(lambda: self.rescan(connection_info, use_multipath=use_multipath), enough)

    def rescan(self, connection_info: Mapping[str, Any], *, use_multipath: bool) -> None:
        """Ask os-brick once to let every path of an attached volume show the present size.

        :raises UnavailableError: paths are down.
        """
        with translate_errors("read the new size", connection_info):
            self.connector(connection_info, use_multipath).extend_volume(dict(connection_info["data"]))

    def connector(self, connection_info: Mapping[str, Any], use_multipath: bool) -> Any:
        """Return the connector for a protocol: os-brick's, or the project's own for RBD."""
        connector = loading.load(self.config.lock_path)
        protocol = connection_info["driver_volume_type"]
        if protocol == "rbd":
            from .rbd import KernelRBDConnector

            return KernelRBDConnector(os.path.join(self.config.lock_path, "rbd"))
        # The controller's answer names a directory of the controller's machine, which is of no use
        # here.
        options = {"conn": {"mount_point_base": self.shares.mount_base}} if protocol in shares.PROTOCOLS else {}
        # The keyword must be `use_multipath`: any other is ignored, and the volume silently gets
        # one path.
        return connector.InitiatorConnector.factory(protocol, "", use_multipath=use_multipath, **options)


def _to_plain(device_info: Any) -> dict[str, Any]:
    """Return os-brick's answer as data that JSON keeps as it is."""
    result: dict[str, Any] = {}
    for key, value in dict(device_info or {}).items():
        result[str(key)] = value.decode() if isinstance(value, bytes) else value
    return result
