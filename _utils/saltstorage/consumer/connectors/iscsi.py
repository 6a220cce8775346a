"""What os-brick's iSCSI connector needs on the host and does not see to itself."""

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


def restore_records(data: Mapping[str, Any]) -> None:
    """Make again the node records of a volume's sessions when somebody deleted them.

    Without them os-brick finds no device of the session and no way to log out, calls that success, and the device stays for ever.

    :param data: the ``data`` of an iSCSI connection.
    """
    targets = {data.get("target_iqn"), *data.get("target_iqns", ())}
    for portal, target in sorted(portals_and_targets("session") - portals_and_targets("node")):
        if target in targets:
            log.warning("storage: the node record of %s at %s is missing and made again", target, portal)
            commands.run("make the node record again", ["iscsiadm", "-m", "node", "-T", target, "-p", portal, "-o", "new"], timeout=60)


def leave_to_the_records(data: Mapping[str, Any]) -> None:
    """Have open-iscsi's own service log in to none of a volume's targets when the host boots, as os-brick asks of it.

    What is attached at boot is for the attachment records to say: a target that has gone, or was given to another host meanwhile,
    would be tried for minutes, and beside the unit that attaches volumes.

    :param data: the ``data`` of an iSCSI connection.
    """
    for target in sorted({data.get("target_iqn"), *data.get("target_iqns", ())} - {None}):
        command = ["iscsiadm", "-m", "node", "-T", target, "-o", "update", "-n", "node.startup", "-v", "manual"]
        try:
            commands.run("leave the login at boot to the attachment records", command, timeout=60, ok=(0, 21))  # 21: there are none
        except StorageError as error:  # it is attached all the same
            log.warning("storage: %s", error)


def portals_and_targets(mode: str) -> set[tuple[str, str]]:
    """Return the portal and target of each ``session``, or of each ``node`` record; nothing where there is no iSCSI."""
    if shutil.which("iscsiadm", path=commands.SEARCH) is None:
        return set()
    # Where there is nothing to list, it fails.
    _, out, _ = commands.run("list iSCSI " + mode + "s", ["iscsiadm", "-m", mode], timeout=60, ok=range(256))
    return set(_LINE.findall(out))
