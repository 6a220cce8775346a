"""NVMe over fabrics: its needs on this host, and the controllers that os-brick leaves behind."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator, Mapping
from typing import Any

from ...errors import FailedPreconditionError, StorageError
from ..host import commands

PROTOCOL = "nvmeof"
#: How long the kernel may take to drop a namespace that the target no longer has, seconds.
SCAN_TIMEOUT = 10.0
#: Transports in connection information that are RDMA; os-brick takes all others for TCP.
_RDMA = ("rdma", "RoCEv2")
log = logging.getLogger(__name__)


def is_nvme(connection_info: Mapping[str, Any]) -> bool:
    """Return whether a volume is attached over NVMe fabrics."""
    return connection_info.get("driver_volume_type") == PROTOCOL


def load_core() -> None:
    """Load the kernel's NVMe core, if nvme-cli is installed.

    Only the core knows whether NVMe volumes can have several paths. A host without NVMe disks of
    its own has not loaded it before its first attachment.
    """
    try:
        commands.find("nvme")
        load_module("nvme_fabrics")
    except StorageError as error:
        log.debug("storage: NVMe over fabrics is not prepared: %s", error)


def check(data: Mapping[str, Any]) -> None:
    """Refuse a volume that this host lacks a part for, before os-brick tries for half a minute.

    :param data: the ``data`` of the connection information.
    :raises FailedPreconditionError: nvme-cli is not installed, or the kernel has no module for the
        transport; the message names the missing part.
    """
    commands.find("nvme")
    for transport in transports(data):
        load_module("nvme_rdma" if transport in _RDMA else "nvme_tcp")


def load_module(module: str) -> None:
    """Load a module of the kernel, unless it is loaded or built in already.

    :raises FailedPreconditionError: it cannot be loaded.
    """
    if os.path.isdir(f"/sys/module/{module}"):
        return
    step = f"load the kernel module {module}"
    code, _, err = commands.run(step, ["modprobe", "--", module], timeout=60, ok=range(256))
    if code:
        raise FailedPreconditionError(
            f"the kernel module {module} cannot be loaded ({err.strip()[-200:]}); install the modules of the running kernel,"
            f" {os.uname().release}"
        )


def properties(data: Mapping[str, Any]) -> Any:
    """Return connection data in os-brick's own form, with the connected controllers."""
    from os_brick.initiator.connectors import nvmeof

    return nvmeof.NVMeOFConnProps(dict(data), find_controllers=True)


def is_shared(data: Mapping[str, Any]) -> bool:
    """Return whether other volumes are reached through the same controllers.

    Then the device goes only when its volume is unmapped.
    """
    return any(len(portal.get_all_namespaces_ctrl_paths()) > 1 for target in properties(data).targets for portal in target.portals)


def clean_up(connector: Any, data: Mapping[str, Any]) -> None:
    """Let the kernel notice an unmapped volume, and disconnect controllers without volumes.

    os-brick keeps a controller that has other volumes, also when those are detached at the same
    time; and it keeps all controllers when the device went first. A failure is only logged: the
    volume is unmapped.

    :param connector: os-brick's connector.
    """
    found = properties(data)
    live = [portal for target in found.targets for portal in target.live_portals]
    for portal in live:
        connector.rescan(portal.controller)
    # The scan goes on in the background; a device that stayed would be found by the search for the
    # next volume.
    end = time.monotonic() + SCAN_TIMEOUT
    while any(portal.get_device() for portal in live):
        if time.monotonic() > end:
            log.warning("storage: the volume at %s was unmapped, and this host still shows it", [target.nqn for target in found.targets])
            return
        time.sleep(0.1)
    for target in found.targets:
        for portal in target.portals:
            if portal.controller and not portal.get_all_namespaces_ctrl_paths():
                commands.run("disconnect an NVMe controller", ["nvme", "disconnect", "-d", f"/dev/{portal.controller}"], timeout=60)


def transports(data: Mapping[str, Any]) -> Iterator[str]:
    """Yield the transports in connection data of any form, such as ``tcp``."""
    for target in data.get("volume_replicas") or [data]:
        if "transport_type" in target:
            yield str(target["transport_type"])
        for portal in target.get("portals") or ():
            yield str(portal[2])
