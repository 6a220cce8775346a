"""Whether what is mounted from a volume has its size too: a device that has grown is only half of it."""

from __future__ import annotations

import os

from ..consumer.consumer import Consumer
from ..consumer.devices import mounts
from ..consumer.filesystems import resizefs
from ..errors import StorageError


def live(consumer: Consumer, name: str) -> list[mounts.Mount]:
    """Return the mounts of the file system on a volume, by whomever they were made."""
    device = consumer.mountable(name)
    return mounts.of_device(device) if device and os.path.exists(device) else []


def writable(consumer: Consumer, name: str) -> list[mounts.Mount]:
    """Return the mount by which the file system on an attached volume can be grown; none when it is not mounted for writing."""
    attached = consumer.attachment(name)
    if attached is None or attached.read_only:
        return []
    found = [m for m in live(consumer, name) if mounts.state(m.path).top == m]
    return [m for m in found if not m.read_only][:1]


def lags(consumer: Consumer, name: str) -> bool:
    """Return whether a file system that is mounted from an attached volume is smaller than its device and can follow that.

    One that cannot be asked, such as one that the kernel has stopped, is not known to have followed.
    """
    try:
        return any(resizefs.can_grow(consumer.mountable(name), m.fstype, m.path) for m in writable(consumer, name))
    except (OSError, StorageError):
        return True
