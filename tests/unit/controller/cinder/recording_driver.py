"""Cinder drivers for tests: the file driver with an export, CHAP, and faults on demand."""

from __future__ import annotations

from typing import Any

from cinder import exception
from oslo_concurrency import processutils

from saltstorage.drivers.file import FileDriver

COMMAND_SECRET = "s3cret-in-command"


class RecordingDriver(FileDriver):
    """Keeps a list of calls and the set of exported volumes."""

    calls: list[str]
    fail: dict[str, Exception]
    shared: Any = None

    def do_setup(self, context: Any) -> None:
        super().do_setup(context)
        self.calls, self.fail, self.exported, self.counted = [], {}, set(), []

    def _note(self, name: str) -> None:
        self.calls.append(name)
        if name in self.fail:
            raise self.fail.pop(name)

    def create_volume(self, volume: Any) -> dict[str, Any]:
        super().create_volume(volume)
        self._note("create_volume")
        return {"provider_location": f"here:{volume.id}"}

    def delete_volume(self, volume: Any) -> None:
        self._note("delete_volume")
        super().delete_volume(volume)

    def extend_volume(self, volume: Any, new_size: int) -> None:
        self._note(f"extend_volume while {volume.status}")
        super().extend_volume(volume, new_size)

    def create_snapshot(self, snapshot: Any) -> None:
        super().create_snapshot(snapshot)
        self._note("create_snapshot")

    def validate_connector(self, connector: Any) -> None:
        if "initiator" not in connector:
            raise exception.InvalidConnectorException(missing="initiator")

    def create_export(self, context: Any, volume: Any, connector: Any) -> dict[str, Any]:
        self._note("create_export")
        self.exported.add(volume.id)
        return {"provider_auth": volume.provider_auth or "CHAP user s3cret-chap-password"}

    def ensure_export(self, context: Any, volume: Any) -> dict[str, Any]:
        self._note("ensure_export")
        self.exported.add(volume.id)
        return {"provider_location": "restored"}

    def remove_export(self, context: Any, volume: Any) -> None:
        self._note("remove_export")
        self.exported.discard(volume.id)

    def initialize_connection(self, volume: Any, connector: Any) -> dict[str, Any]:
        self.counted.append(len(volume.volume_attachment))
        self._note("initialize_connection")
        user, password = volume.provider_auth.split()[1:]
        return {"driver_volume_type": "iscsi", "data": {"target_lun": 1, "auth_username": user, "auth_password": password}}

    def terminate_connection(self, volume: Any, connector: Any, **kwargs: Any) -> Any:
        self._note(f"terminate_connection {connector['initiator']}")
        return self.shared


class DownDriver(FileDriver):
    """Cannot reach its array, and tells its password while complaining."""

    def do_setup(self, context: Any) -> None:
        raise exception.VolumeBackendAPIException(
            data=f"login {self.configuration.chap_password} refused by {self.configuration.target_prefix}"
        )


class CommandDriver(FileDriver):
    """Runs a command with a secret in it."""

    def do_setup(self, context: Any) -> None:
        raise processutils.ProcessExecutionError(cmd=f"sudo tgtadm --user u {COMMAND_SECRET}", stderr=COMMAND_SECRET, exit_code=22)
