"""Growing an attached volume: the parts that need no os-brick."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from ...errors import UnavailableError
from ..host import commands, heartbeat

#: Protocols whose disks os-brick's ``LinuxSCSI.extend_volume`` rescans; it asks the program lsscsi
#: for their numbers.
SCSI = ("iscsi", "iser", "fibre_channel")
#: How long a device may take to show its new size, and the pause before it is asked again, seconds.
EXTEND_TIMEOUT = 60.0
EXTEND_PAUSE = 1.0


def check(connection_info: Mapping[str, Any]) -> None:
    """Check, before a volume grows, that its device can show the new size.

    :raises FailedPreconditionError: a program is missing on this host; the message names it.
    """
    if connection_info["driver_volume_type"] in SCSI:
        commands.find("lsscsi")


def repeat(rescan: Callable[[], None], enough: Callable[[], bool]) -> None:
    """Let a device show its present size, again and again for up to a minute.

    While the session of a disk is being logged in anew, as after a target closed it to grow,
    the kernel silently skips the rescan (``scsi_rescan_device`` of Linux, for any disk that is
    not running).

    :param rescan: asks os-brick for the present size.
    :param enough: returns whether the device shows it.
    :raises UnavailableError: paths are down.
    """
    until = time.monotonic() + EXTEND_TIMEOUT
    with heartbeat.watch("os-brick", "read the new size"):
        while True:
            try:
                rescan()
                if enough() or time.monotonic() >= until:
                    return
            except UnavailableError:
                if time.monotonic() >= until:
                    raise
            time.sleep(EXTEND_PAUSE)
