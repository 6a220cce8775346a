"""What of a volume that has grown has not followed on this host, and what the controller knows of that."""

from __future__ import annotations

from ..consumer import attach, growing
from ..consumer.flow import Flow
from ..model import Connection, Volume


def lagging(flow: Flow, volume: Volume) -> int | None:
    """Return the GiB that the volume has had here so far, when its device does not follow it yet."""
    attached = flow.consumer.attachment(volume.name)
    if attached is None or attached.volume_id != volume.id:
        return None
    status = flow.consumer.check(volume.name, size=volume.size)
    if status.refused:
        raise status.error(volume.name)
    return status.had(attached) if status.state == attach.SIZE else None


def refuse_locked_out(flow: Flow, volume: Volume) -> None:
    """Refuse before anything grows what could not be grown in the end: what is open of an encrypted volume grows with its passphrase only.

    :raises FailedPreconditionError: there is none where the record says, or cryptsetup is missing.
    """
    attached = flow.consumer.attachment(volume.name)
    if attached is None or attached.volume_id != volume.id or not attached.encrypted:
        return
    # One that is not open grows when it is opened.
    if flow.consumer.check(volume.name, size=volume.size).state in (attach.OK, attach.SIZE):
        flow.consumer.passphrase(volume.name, attached.passphrase)


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
