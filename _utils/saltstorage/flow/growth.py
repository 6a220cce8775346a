"""After a volume grew: whether its device shows the new size here, and the controller knows that.

A *device lag* is a device that shows less than its volume has. A growth is *unreported* while the
controller does not know it. It is reported only when the mounted file system has the size too,
since a device that has grown is half of it.
"""

from __future__ import annotations

from ..consumer.filesystems import resizefs
from ..consumer.status import SIZE
from ..errors import StorageError
from ..model import Connection, Volume
from . import mount_points
from .flow import Flow


def device_lag(flow: Flow, volume: Volume) -> int | None:
    """Return the GiB that a volume has had here so far, when its device lags; else None.

    :raises StorageError: the device is another volume's, or its storage does not answer.
    """
    attached = flow.attachment_of(volume)
    if attached is None:
        return None
    status = flow.status(volume.name, size=volume.size)
    if status.refused:
        raise status.error(volume.name)
    return status.used_size(attached) if status.state == SIZE else None


def lags(flow: Flow, volume: Volume) -> bool:
    """Return whether the attached device of a volume shows less than the volume has."""
    return flow.attachment_of(volume) is not None and flow.status(volume.name, size=volume.size).state == SIZE


def resize(flow: Flow, volume: Volume) -> None:
    """Make the attached device of a volume show the volume's size."""
    flow.consumer.resize(volume.name, size=volume.size)


def check_can_follow(flow: Flow, volume: Volume, passphrase: str = "") -> None:
    """Refuse, before anything grows, a growth that this host cannot follow.

    A program or a passphrase may be missing.

    :param passphrase: future place of the passphrase; default: its present place.
    :raises FailedPreconditionError: the message names what is missing.
    """
    # A missing device has the right size once it is attached; a locked one grows when it is opened.
    if flow.attachment_of(volume) is not None and flow.status(volume.name, size=volume.size).present:
        flow.consumer.check_resize(volume.name, passphrase)


def unreported(flow: Flow, volume: Volume) -> Connection | None:
    """Return the mapping of an attached volume with an unreported growth, else None."""
    if flow.attachment_of(volume) is None or not flow.status(volume.name, size=volume.size).ok:
        # A missing or locked device follows when it comes back, and its growth is reported then.
        return None
    mine = next((c for c in flow.inventory().connections_of(volume) if c.host == flow.minion and c.behind(volume)), None)
    return mine if mine is not None and not file_system_lags(flow, volume.name) else None


def report(flow: Flow, volume: Volume, connection: Connection) -> None:
    """Tell the controller that an attached volume and its file system have their size here.

    Nothing is done when the controller knows it.

    :param connection: the volume's mapping to this host, as the controller returned it.
    """
    if connection.behind(volume):
        reply = flow.ask("followed", {"name": volume.name, "size": volume.size, **flow.owner_args(volume.owner)})
        flow.put(Connection.from_wire(reply["connection"]))


def report_unreported(flow: Flow, volume: Volume) -> Connection | None:
    """Report an unreported growth.

    Return the mapping as it was, None when there was nothing to report.
    """
    with flow.consumer.lock(volume.name):
        mine = unreported(flow, volume)
        if mine is not None:
            report(flow, volume, mine)
        return mine


def hosts_behind(flow: Flow, volume: Volume) -> list[str]:
    """Return the other hosts that have not followed a volume.

    They are known as far as this run has asked the controller.
    """
    known = flow.known()
    return [c.host for c in known.connections_of(volume) if c.host != flow.minion and c.behind(volume)] if known is not None else []


def file_system_lags(flow: Flow, name: str) -> bool:
    """Return whether the mounted file system is smaller than its device and can grow.

    A file system that gives no answer, such as a stopped one, may be smaller.
    """
    try:
        mounted = mount_points.writable(flow, name)
        return any(resizefs.can_grow(flow.consumer.mountable(name), mount.fstype, mount.path) for mount in mounted)
    except (OSError, StorageError):
        return True
