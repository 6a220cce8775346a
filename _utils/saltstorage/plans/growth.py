"""What of a volume that has grown has not followed on this host, and what the controller knows of that."""

from __future__ import annotations

from ..consumer.status import SIZE
from ..flow import growing
from ..flow.flow import Flow
from ..model import Connection, Volume


def lagging(flow: Flow, volume: Volume) -> int | None:
    """Return the GiB that the volume has had here so far, when its device does not follow it yet."""
    attached = flow.consumer.attachment(volume.name)
    if attached is None or attached.volume_id != volume.id:
        return None
    status = flow.consumer.check(volume.name, size=volume.size)
    if status.refused:
        raise status.error(volume.name)
    return status.had(attached) if status.state == SIZE else None


def refuse_stuck(flow: Flow, volume: Volume, passphrase: str = "") -> None:
    """Refuse before anything grows what could not follow here: for want of a program, or of the passphrase of an encrypted volume.

    :param passphrase: where the passphrase is going to be; default: where it is now.
    :raises FailedPreconditionError: what is missing is named.
    """
    attached = flow.consumer.attachment(volume.name)
    # One that is not there has its size when it comes, and one that is not open grows when it is opened.
    if attached is None or attached.volume_id != volume.id:
        return
    if flow.consumer.check(volume.name, size=volume.size).present:
        flow.consumer.check_resize(volume.name, passphrase)


def untold(flow: Flow, volume: Volume) -> Connection | None:
    """Return the mapping of an attached volume when it has followed, with what is on it, and the controller does not know that yet."""
    attached = flow.consumer.attachment(volume.name)
    if attached is None or attached.volume_id != volume.id or not flow.consumer.check(volume.name, size=volume.size).ok:
        # What is gone or locked follows when it comes back, and says so then.
        return None
    mine = next((c for c in flow.inventory().connections_of(volume) if c.host == flow.minion and c.behind(volume)), None)
    return mine if mine is not None and not growing.lags(flow.consumer, volume.name) else None


def tell(flow: Flow, volume: Volume) -> Connection | None:
    """Tell the controller when an attached volume has followed; return the mapping as it was, None when there was nothing to tell."""
    with flow.consumer.lock(volume.name):
        mine = untold(flow, volume)
        if mine is not None:
            flow.followed(volume, mine)
        return mine
