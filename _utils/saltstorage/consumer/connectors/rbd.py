"""os-brick's connector for Ceph RBD, for hosts that have no Ceph configuration of their own.

os-brick maps images with the kernel's client and the command ``rbd``.  This connector differs:

- The controller's answer holds the key.  os-brick keeps the key in a file in ``/tmp`` for as long
  as the volume is attached and needs that file to detach, also after a boot.  Here the file is in
  a private directory and exists only while ``rbd map`` runs.
- The device of an image is read from the kernel, by pool and name, and no image is mapped a second
  time. os-brick trusts a link that only udev rules of Ceph's package make, and the image's name
  alone.
- The kernel is asked for the present size when it missed the news of a change.

:mod:`.brick` imports this module only when an RBD volume is attached or detached, since it imports
os-brick.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator, Mapping
from typing import Any

from os_brick import exception
from os_brick.initiator.connectors.rbd import RBDConnector
from oslo_concurrency import processutils

from ...errors import FailedPreconditionError

SYSFS = "/sys/bus/rbd"
#: How long the cluster may take to answer one question while an image is mapped, seconds.
TIMEOUT = 30
#: Causes for the exit codes of ``rbd map`` that no repetition mends; the codes are numbers of
#: errors.
_FINAL = {
    errno.ENXIO: "the kernel of this host lacks features that the image has; use a newer kernel, or let the cluster make images with fewer "
    "(rbd_default_features), and switch them off in this image with 'rbd feature disable'",
    errno.EACCES: "the Ceph cluster refuses the user or its key; look at rbd_user and rbd_keyring_conf of the backend, or at the keyring "
    "in /etc/ceph of this host when the backend has no rbd_keyring_conf",
}


class KernelRBDConnector(RBDConnector):
    """Attaches images with the kernel's client.

    :param private_dir: directory of the file with the key, created with mode 0700.
    """

    def __init__(self, private_dir: str) -> None:
        super().__init__("", do_local_attach=True)
        self.private_dir = private_dir
        self._conf: str | None = None

    def connect_volume(self, connection_properties: dict[str, Any]) -> dict[str, Any]:
        """Map an image, unless it is mapped already.

        :returns: such as ``{"type": "block", "path": "/dev/rbd0"}``.
        :raises FailedPreconditionError: the command ``rbd`` or the kernel's module is missing, or
            the kernel lacks features of the image.
        """
        device = device_of(connection_properties)
        if device is None:
            if shutil.which("rbd") is None:
                raise FailedPreconditionError("the command rbd is missing; install the package ceph-common on this host")
            try:
                with self.configuration(connection_properties):
                    super().connect_volume(connection_properties)
            except processutils.ProcessExecutionError as error:
                raise refusal(error) or error from None
            device = device_of(connection_properties)
        if device is None:
            raise exception.BrickException(f"rbd mapped {connection_properties['name']}, and the kernel has no such device")
        return {"type": "block", "path": device}

    def disconnect_volume(
        self, connection_properties: dict[str, Any], device_info: Any, force: bool = False, ignore_errors: bool = False
    ) -> None:
        """Unmap an image; an image that is not mapped is fine."""
        super().disconnect_volume(connection_properties, {}, force=force, ignore_errors=ignore_errors)

    def extend_volume(self, connection_properties: dict[str, Any]) -> int:
        """Let the device show the present size, and return it in bytes."""
        device = device_of(connection_properties)
        if device is not None:
            with open(f"{SYSFS}/devices/{_number(device)}/refresh", "w", encoding="ascii") as file:
                file.write("1")
        return int(super().extend_volume(connection_properties))

    def get_volume_paths(self, connection_properties: dict[str, Any]) -> list[str]:
        """Return the device that has the image now."""
        device = device_of(connection_properties)
        return [] if device is None else [device]

    def create_non_openstack_config(self, connection_properties: dict[str, Any]) -> str | None:
        """Return the path of the configuration for os-brick; only mapping needs one."""
        return self._conf

    def _find_root_device(self, connection_properties: dict[str, Any], conf: Any) -> str | None:
        return device_of(connection_properties)

    @contextlib.contextmanager
    def configuration(self, properties: Mapping[str, Any]) -> Iterator[None]:
        """Write monitors and key to a file that only root can read, while the image is mapped.

        Without a key in the answer, ``rbd`` takes the host's own from ``/etc/ceph``.
        """
        keyring = properties.get("keyring")
        if not keyring:
            yield
            return
        os.makedirs(self.private_dir, mode=0o700, exist_ok=True)
        # Each try uses the same name, so that it overwrites the remains of a crash.
        path = os.path.join(self.private_dir, str(properties["name"]).replace("/", "_") + ".conf")
        hosts = zip(self._sanitize_mon_hosts(properties["hosts"]), properties["ports"], strict=True)
        lines = [
            "[global]",
            f"mon_host = {','.join(f'{host}:{port}' for host, port in hosts)}",
            # Without these, `rbd map` waits for five minutes when no monitor answers, and for ever
            # when no disk of the cluster answers.
            *(f"{option} = {TIMEOUT}" for option in ("client_mount_timeout", "rados_mon_op_timeout", "rados_osd_op_timeout")),
            str(keyring),
            "",
        ]
        try:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "w", encoding="utf-8") as file:
                file.write("\n".join(lines))
            self._conf = path
            yield
        finally:
            self._conf = None
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)


def device_of(properties: Mapping[str, Any], sysfs: str = SYSFS) -> str | None:
    """Return the device of an image, such as ``/dev/rbd0``; None if it is not mapped.

    :param properties: connection properties of the image.
    :param sysfs: directory in which the kernel shows its RBD devices.
    """
    pool, _, image = str(properties["name"]).partition("/")
    devices = os.path.join(sysfs, "devices")
    for number in sorted(os.listdir(devices), key=int) if os.path.isdir(devices) else []:
        base = os.path.join(devices, number)
        if (_read(base, "pool"), _read(base, "name"), _read(base, "current_snap")) == (pool, image, "-"):
            return f"/dev/rbd{number}"
    return None


def _number(device: str) -> str:
    return device.removeprefix("/dev/rbd")


def _read(base: str, name: str) -> str:
    try:
        with open(os.path.join(base, name), encoding="utf-8", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return ""


def refusal(error: processutils.ProcessExecutionError) -> FailedPreconditionError | None:
    """Return the error for a failure that no repetition mends, else None."""
    if not os.path.isdir(SYSFS):
        return FailedPreconditionError(
            "the kernel of this host has no module rbd; install it (a package with more of the kernel's modules)"
        )
    text = _FINAL.get(int(error.exit_code or 0))
    return None if text is None else FailedPreconditionError(text)
