"""Connecting: a volume is mapped to this host and attached.

The order of the steps survives a crash at any point.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..consumer.attachment import Attachment
from ..consumer.host import records
from ..consumer.status import SIZE
from ..errors import FailedPreconditionError, StorageError
from ..model import Connection, Volume
from ..spec import VolumeSpec
from . import fencing, formatting, growth
from .batch import Ask
from .flow import Flow


@dataclass(frozen=True, kw_only=True)
class Connected:
    """The result of connecting.

    :ivar volume: the volume as it is now.
    :ivar old: the volume as it was; None when it was created.
    :ivar connection: the mapping, as it was before this host followed the volume.
    :ivar new: whether the mapping is new.
    :ivar attached: whether the device was attached now; it may have been so before, under this or
        another name.
    :ivar before: the attachment as it was, None when there was none.
    :ivar attachment: the attachment as it is now.
    :ivar encrypted: whether the volume was encrypted now.
    :ivar lagged: GiB that its attached device had before, when it showed less than the volume has;
        it shows all now. Else None.
    :ivar follows: whether the mounted file system has, or is about to get, the new size. If not,
        the growth is not reported yet.
    """

    volume: Volume
    old: Volume | None
    connection: Connection
    new: bool
    attached: bool
    before: Attachment | None
    attachment: Attachment
    encrypted: bool
    lagged: int | None
    follows: bool


@dataclass(frozen=True, kw_only=True)
class How:
    """How a volume is to be connected.

    :ivar wanted: the volume is created or grown first; None connects an existing one as it is.
    :ivar read_only: whether it is attached for reading only.
    :ivar mounts: whether a file system of it is going to be mounted.
    :ivar passphrase: place of the passphrase of a volume that is used encrypted; an empty volume
        is encrypted first.
    """

    wanted: VolumeSpec | None = None
    read_only: bool = False
    mounts: bool = False
    passphrase: str = ""


def connect(flow: Flow, owner: str, name: str, how: How = How()) -> Connected:
    """Map a volume to this host and attach it.

    Can be repeated after a crash or an error at any point: the record of the intent is written
    first.

    :raises StorageError: as the controller's operation ``connect`` and the consumer's ``attach``
        say.
    """
    consumer = flow.consumer
    with consumer.lock(name):
        before = flow.attachment(name)
        if before is not None and before.volume_id and (stale := fencing.fenced(flow, owner, name)):
            fencing.discard(flow, owner, name, *stale)
        there = flow.status(name).present
        ask = ask_connect(flow, owner, name, how)
        try:
            ask, reply, discarded = _map(flow, ask, how)
        except StorageError as error:
            _forget_intent(flow, name, error)
            raise
        there = there and not discarded
        volume, connection = Volume.from_wire(reply["volume"]), Connection.from_wire(reply["connection"])
        flow.put(volume)
        flow.put(connection)
        _drop_former(flow, name, volume, how)
        status = flow.status(name, size=volume.size)
        lagged = status.used_size(before) if there and before is not None and status.state == SIZE else None
        attachment = consumer.attach(
            volume,
            connection_id=connection.id,
            connection_info=reply["connection_info"],
            connector=ask.args["connector"],
            read_only=how.read_only,
            passphrase=how.passphrase,
        )
        encrypted = bool(how.passphrase) and formatting.open_encrypted(flow, volume, attachment)
        if flow.status(name, size=volume.size).state == SIZE:
            # It was attached and has been grown since.
            growth.resize(flow, volume)
        # A file system must follow before the growth is reported: here if it is not going to be
        # mounted, else when it is.
        follows = how.mounts or not connection.behind(volume) or not growth.file_system_lags(flow, name)
        if follows and not how.mounts:
            growth.report(flow, volume, connection)
    return Connected(
        volume=volume,
        old=Volume.from_wire(reply["old"]) if reply["old"] else None,
        connection=connection,
        new=bool(reply["new"]),
        attached=not there,
        before=before,
        attachment=attachment,
        encrypted=encrypted,
        lagged=lagged,
        follows=follows,
    )


def ask_connect(flow: Flow, owner: str, name: str, how: How) -> Ask:
    """Record that a volume is about to be mapped to this host, and return the request for it."""
    # The host is looked at before anything is recorded or asked for: a missing program is an error
    # that leaves nothing.
    connector = flow.once("saltstorage.connector", flow.consumer.connector_properties)
    if how.passphrase and not flow.status(name).ok:
        flow.consumer.passphrase(name, how.passphrase)
    intent = flow.consumer.intend(owner, name, read_only=how.read_only, passphrase=how.passphrase)
    args = {"name": name, "connector": connector, "read_only": how.read_only, **flow.owner_args(owner)}
    if how.passphrase:
        args["encrypted"] = True
    if how.mounts and owner != flow.minion:
        args["mounts"] = True
    if how.wanted is not None:
        args["create"] = how.wanted.to_wire()
    return Ask("connect", owner, name, args, stamp=intent.updated)


def _map(flow: Flow, ask: Ask, how: How) -> tuple[Ask, dict[str, Any], bool]:
    """Have a volume mapped to this host.

    Return the last request, its answer, and whether a stale device was removed for it.
    """
    try:
        return ask, flow.together.answer(ask), False
    except FailedPreconditionError as error:
        if not error.details.get("fenced"):
            raise
        # The stale device goes before the volume comes again.
        fencing.discard(flow, ask.owner, ask.name, *error.details["volume_ids"])
    ask = ask_connect(flow, ask.owner, ask.name, how)
    return ask, flow.together.answer(ask), True


def _forget_intent(flow: Flow, name: str, error: StorageError) -> None:
    """Remove the intent after a refusal.

    When the outcome is not known, it stays: the volume may be mapped.
    """
    if not error.final:
        return
    now = flow.attachment(name)
    if now is not None and now.state == records.INTENT and not now.volume_id:
        flow.consumer.forget(name)


def _drop_former(flow: Flow, name: str, volume: Volume, how: How) -> None:
    """Start a new record when the present one is of a former volume of the name.

    Nothing of that volume may be attached.
    """
    now = flow.attachment(name)
    if now is not None and now.volume_id not in ("", volume.id) and now.state in (records.INTENT, records.DETACHED):
        flow.consumer.forget(name)
        flow.consumer.intend(volume.owner, name, read_only=how.read_only, passphrase=how.passphrase)
