"""The node records of iSCSI, which os-brick's connector needs on the host and does not maintain."""

from __future__ import annotations

import logging
import re
import shutil
from collections.abc import Mapping
from typing import Any

from ...errors import StorageError
from ..host import commands

#: A line of ``iscsiadm -m session`` or ``iscsiadm -m node``: the portal, its group and the target.
_LINE = re.compile(r"(?:^|\s)(\S+:\d+),-?\d+ (iqn\.\S+|eui\.\S+|naa\.\S+)", re.MULTILINE)
log = logging.getLogger(__name__)


def restore_node_records(data: Mapping[str, Any]) -> None:
    """Restore the node records of a volume's sessions after somebody deleted them.

    Without them os-brick finds no device of the session and no way to log out, calls that success,
    and the device stays for ever.

    :param data: the ``data`` of an iSCSI connection.
    """
    targets = {data.get("target_iqn"), *data.get("target_iqns", ())}
    for portal, target in sorted(portals_and_targets("session") - portals_and_targets("node")):
        if target in targets:
            log.warning("storage: the node record of %s at %s is missing; it is restored", target, portal)
            commands.run("restore the node record", ["iscsiadm", "-m", "node", "-T", target, "-p", portal, "-o", "new"], timeout=60)


def disable_login_at_boot(data: Mapping[str, Any]) -> None:
    """Keep open-iscsi's own service from logging in to a volume's targets at boot.

    os-brick asked the service to do so. The attachment records decide which volumes are attached
    at boot. The service would try for minutes to reach a target that is gone, or that another host
    has by now, beside the unit that attaches volumes.

    :param data: the ``data`` of an iSCSI connection.
    """
    for target in sorted({data.get("target_iqn"), *data.get("target_iqns", ())} - {None}):
        command = ["iscsiadm", "-m", "node", "-T", target, "-o", "update", "-n", "node.startup", "-v", "manual"]
        try:
            commands.run("leave the login at boot to the attachment records", command, timeout=60, ok=(0, 21))  # 21: no record
        except StorageError as error:  # the volume is attached all the same
            log.warning("storage: %s", error)


def portals_and_targets(mode: str) -> set[tuple[str, str]]:
    """Return the portal and target of each ``session`` or ``node`` record; none without iSCSI."""
    if shutil.which("iscsiadm", path=commands.SEARCH) is None:
        return set()
    # The command fails when there is nothing to list.
    _, out, _ = commands.run("list iSCSI " + mode + "s", ["iscsiadm", "-m", mode], timeout=60, ok=range(256))
    return set(_LINE.findall(out))
