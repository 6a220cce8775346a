"""Connector properties: the facts about this host that a controller needs to map a volume to it."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import shutil
import socket
import sys
from collections.abc import Mapping
from typing import Any

from ...errors import FailedPreconditionError
from ..host.config import ConsumerConfig
from . import loading, nvme
from .translation import translate_errors

log = logging.getLogger(__name__)


@functools.lru_cache(maxsize=8)
def read(config: ConsumerConfig) -> dict[str, Any]:
    """Return the connector properties of this host; read once a process.

    The caller must not change them.

    :raises FailedPreconditionError: multipath is enforced and multipathd does not run.
    """
    with translate_errors("read the initiator's properties"):
        if config.multipath:
            nvme.load_core()
        connector = loading.load(config.lock_path)
        from os_brick import utils
        from oslo_utils import importutils

        # This is the loop of os-brick's get_connector_properties, without the parts that would
        # write to /etc for hardware that the host cannot have.
        properties: dict[str, Any] = {
            "platform": os.uname().machine,
            "os_type": sys.platform,
            "ip": _address(),
            "host": config.host,
        }
        for path in connector.unix_connector_list:
            cls = importutils.import_class(path)
            if not utils.platform_matches(properties["platform"], cls.platform):
                continue
            if cls.__name__ == "LightOSConnector" and not (os.path.exists("/etc/nvme/hostnqn") or shutil.which("nvme")):
                continue
            found = cls.get_connector_properties(
                "", host=config.host, multipath=config.multipath, enforce_multipath=config.enforce_multipath, execute=None
            )
            properties = utils.merge_dict(properties, found)
        properties["multipath"] = config.multipath and _multipath_runs(config, properties)
        return properties


def _multipath_runs(config: ConsumerConfig, properties: Mapping[str, Any]) -> bool:
    """Return whether volumes can have several paths here.

    os-brick itself looks only when it attaches, after the mapping.
    """
    from os_brick.initiator.linuxscsi import LinuxSCSI

    if properties.get("nvme_native_multipath") or LinuxSCSI.is_multipath_running(root_helper=""):
        return True
    if config.enforce_multipath:
        raise FailedPreconditionError(
            "multipath is enforced and multipathd does not run; start it (package multipath-tools or device-mapper-multipath)"
        )
    log.warning("Multipath is configured and multipathd does not run; volumes get a single path")
    return False


def _address() -> str:
    """Return the address that this host uses towards others; nothing is sent."""
    for family, far in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")):
        with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((far, 9))
            return str(probe.getsockname()[0])
    return "127.0.0.1"
