"""Attach and detach as a whole: the consumer's steps and the controller's, in the order that survives a crash at any point."""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any, TypeVar

from .. import model, validate
from ..consumer import passphrase as passphrases
from ..consumer.attachment import Attachment
from ..consumer.consumer import Consumer
from ..consumer.filesystems import mkfs
from ..consumer.host import records
from ..consumer.host.config import ConsumerConfig
from ..consumer.status import SIZE
from ..errors import (
    AlreadyExistsError,
    DataLossError,
    FailedPreconditionError,
    PermissionDeniedError,
    StorageError,
)
from ..model import Connection, Snapshot, Volume
from ..spec import VolumeSpec
from . import growing
from .batch import Ask, Following, Together, of_run
from .inventory import Inventory, current, fetch
from .session import Controller, controller_for, progress_for

log = logging.getLogger(__name__)

#: Pauses before an operation is asked for again that failed with ABORTED, UNAVAILABLE or RESOURCE_EXHAUSTED, seconds.
RETRY_DELAYS = (1.0, 3.0)

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Connected:
    """What connecting did.

    :ivar volume: the volume as it is now.
    :ivar old: the volume as it was; None when it was created.
    :ivar connection: the mapping, as it was before this host followed the volume.
    :ivar new: whether the mapping is new.
    :ivar attached: whether the device was attached now; it may have been so before, under this or another name.
    :ivar before: the attachment as it was, None when there was none.
    :ivar attachment: the attachment as it is now.
    :ivar encrypted: whether it was encrypted now.
    :ivar lagged: GiB that its attached device had before it followed the volume, which now it does; None when it had not stayed behind.
    :ivar follows: whether what is mounted from it has its size too, or is going to; else the controller is not told that this host has
        followed.
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


class Flow:
    """The operations of one minion on its volumes, with the controller.

    :param opts: the minion's options.
    :param context: ``__context__``; keeps the bus and, in a state run, the inventory.
    :param run: what tells this state run from others (``__instance_id__``); None outside of states.
    :param following: returns the states that come next and whose requests may be sent with this one's.

    >>> Flow(__opts__, __context__).connect("data", create={"size": 20}).attachment.path  # doctest: +SKIP
    '/dev/storage/data'
    """

    def __init__(
        self, opts: Mapping[str, Any], context: MutableMapping[str, Any], run: str | None = None, following: Following | None = None
    ) -> None:
        self._opts = opts
        self._following = following
        self._context = context
        self._run = run
        self.minion = str(opts["id"])

    @functools.cached_property
    def controller(self) -> Controller:
        """The way to the controller."""
        return controller_for(self._opts, self._context, answer_timeout=self.consumer.config.answer_timeout)

    @functools.cached_property
    def consumer(self) -> Consumer:
        """The volumes of this host."""
        return Consumer(ConsumerConfig.from_opts(self._opts), secrets=passphrases.reader(self._opts), tell=progress_for(self._opts))

    @functools.cached_property
    def _together(self) -> Together:
        return Together(self._ask, self._context, self._run, self.consumer.lock, self._following)

    def owner(self, owner: Any) -> str:
        """Return the owner that is meant: this minion for None.

        :raises PermissionDeniedError: it is another minion.
        """
        if owner is None or owner == self.minion:
            return self.minion
        if validate.name(owner, "owner") != validate.SHARED_OWNER:
            raise PermissionDeniedError(f"{self.minion} may not use volumes of {owner}; owner is this minion or 'shared'", field="owner")
        return validate.SHARED_OWNER

    def passphrase(self, name: str, value: Any) -> str:
        """Return where the passphrase of a volume is.

        :param value: what the user said; see :func:`saltstorage.consumer.passphrase.check`.
        """
        return passphrases.direct(passphrases.check(value, name), self._opts, name)

    # Reading.

    def inventory(self) -> Inventory:
        """Return what the controller has for this minion; asked for once in a state run."""
        return fetch(self._ask, self._context, self._run)

    def inventory_now(self) -> Inventory:
        """Return what the controller has for this minion at this moment."""
        return fetch(self._ask, {}, None)

    def fenced(self, owner: str, name: str) -> list[str]:
        """Return the ids of volumes that were taken from this host while it was fenced; what is left of such a one here is stale.

        Both the one that is attached here under a name and the one that has the name by now are looked for: meanwhile the volume may have
        been moved, renamed, given to another owner, let go of or deleted.
        """
        inventory, attached = self.inventory(), self.consumer.attachment(name)
        here = attached.volume_id if attached is not None and attached.owner == owner else ""
        volume = inventory.volume(owner, name)
        return inventory.fenced(here, volume.id if volume is not None else "")

    def refuse_fenced(self, owner: str, name: str, doing: str) -> None:
        """Raise FailedPreconditionError when what is attached here is stale, see :meth:`fenced`: ``doing`` it would write to the volume."""
        if self.consumer.attachment(name) is not None and self.fenced(owner, name):
            raise FailedPreconditionError(
                f"volume {name!r} was taken from this host while it was fenced, and what is left of it here is stale; it is not {doing}."
                " Apply storage_volume.disconnected, which removes it and writes nothing"
            )

    # The controller's part alone.

    def request(self, op: str, args: Mapping[str, Any], *, timeout: float | None = None, retry: bool = True) -> dict[str, Any]:
        """Have the controller do something to a volume or snapshot of this minion.

        :param timeout: longest to wait for each answer, seconds; None as long as the controller works on it. Masterless, it does not count.
        :param retry: try again, a few times, what may succeed later.
        """
        return self._ask(op, args, timeout) if retry else self.controller.call(op, args, timeout)

    def create(self, owner: str, name: str, wanted: VolumeSpec) -> tuple[Volume | None, Volume]:
        """Make sure that a volume exists; return it as it was (None: it was not) and as it is."""
        reply = self._together.answer(self.ask_create(owner, name, wanted))
        old = Volume.from_wire(reply["old"]) if reply["old"] else None
        volume = Volume.from_wire(reply["volume"])
        self.put(volume)
        return old, volume

    def extend(self, owner: str, name: str, size: int) -> tuple[Volume, Volume]:
        """Make sure that a volume has at least ``size`` GiB; return it as it was and as it is."""
        reply = self._ask("extend", {"name": name, "size": size, **self._other(owner)})
        volume = Volume.from_wire(reply["volume"])
        self.put(volume)
        return Volume.from_wire(reply["old"]), volume

    def delete(self, owner: str, name: str, retain: bool | None = None) -> Mapping[str, Any]:
        """Delete a volume, or only let go of it; return the controller's answer, see :meth:`.Volumes.delete`."""
        reply: Mapping[str, Any] = self._together.answer(self.ask_delete(owner, name, retain))
        if reply["old"]:
            self.drop(Volume.from_wire(reply["old"]))
        return reply

    # Both parts.

    def connect(
        self,
        owner: str,
        name: str,
        *,
        wanted: VolumeSpec | None = None,
        read_only: bool = False,
        mounts: bool = False,
        passphrase: str = "",
    ) -> Connected:
        """Map a volume to this host and attach it, creating or growing it first when ``wanted`` says how it shall be.

        Can be repeated after a crash or an error at any point: the record of what was intended is written first.

        :param mounts: whether a file system of it is going to be mounted.
        :param passphrase: where the passphrase is, of a volume that is used encrypted; one that is empty is encrypted first.
        :raises StorageError: as the controller's operation ``connect`` and the consumer's ``attach`` say.
        """
        consumer = self.consumer
        with consumer.lock(name):
            before = consumer.attachment(name)
            if before is not None and before.volume_id and (stale := self.fenced(owner, name)):
                self.discard(owner, name, *stale)
            there = consumer.check(name).present
            ask = self.ask_connect(owner, name, wanted=wanted, read_only=read_only, mounts=mounts, passphrase=passphrase)
            try:
                try:
                    reply = self._together.answer(ask)
                except FailedPreconditionError as error:
                    if not error.details.get("fenced"):
                        raise
                    # What this host still has of the volume is stale, and goes before the volume comes again.
                    self.discard(owner, name, *error.details["volume_ids"])
                    there = False
                    ask = self.ask_connect(owner, name, wanted=wanted, read_only=read_only, mounts=mounts, passphrase=passphrase)
                    reply = self._together.answer(ask)
            except StorageError as error:
                self._forget_intent(name, error)
                raise
            volume = Volume.from_wire(reply["volume"])
            connection = Connection.from_wire(reply["connection"])
            self.put(volume)
            self.put(connection)
            self._drop_former(name, volume, read_only, passphrase)
            status = consumer.check(name, size=volume.size)
            lagged = status.had(before) if there and before is not None and status.state == SIZE else None
            attachment = consumer.attach(
                volume,
                connection_id=connection.id,
                connection_info=reply["connection_info"],
                connector=ask.args["connector"],
                read_only=read_only,
                passphrase=passphrase,
            )
            encrypted = bool(passphrase) and self._open(volume, attachment)
            if consumer.check(name, size=volume.size).state == SIZE:
                # It was attached and has been grown since.
                consumer.resize(name, size=volume.size)
            # A file system has to follow first: one that is going to be mounted does so then, and others have done so, or not.
            follows = mounts or not connection.behind(volume) or not growing.lags(consumer, name)
            if follows and not mounts:
                self.followed(volume, connection)
        old = Volume.from_wire(reply["old"]) if reply["old"] else None
        return Connected(
            volume=volume,
            old=old,
            connection=connection,
            new=bool(reply["new"]),
            attached=not there,
            before=before,
            attachment=attachment,
            encrypted=encrypted,
            lagged=lagged,
            follows=follows,
        )

    def followed(self, volume: Volume, connection: Connection) -> None:
        """Tell the controller that an attached volume has its size here, and what is on it, unless it knows that.

        :param connection: the volume's mapping to this host, as the controller returned it.
        """
        if connection.behind(volume):
            told = self._ask("followed", {"name": volume.name, "size": volume.size, **self._other(volume.owner)})
            self.put(Connection.from_wire(told["connection"]))

    def behind(self, volume: Volume) -> list[str]:
        """Return the other hosts that have not followed a volume, as far as this run has asked what there is."""
        kept = self._kept()
        return [c.host for c in kept.connections_of(volume) if c.host != self.minion and c.behind(volume)] if kept is not None else []

    def disconnect(self, owner: str, name: str, *, force: bool = False, before: Callable[[], T]) -> tuple[T, str, tuple[str, ...]]:
        """Detach a volume that nobody uses from this host and have it unmapped.

        The mapping goes only after the device has gone: unmapped under a device in use, its data would be lost.

        :param before: what to do first, such as unmount.
        :returns: what ``before`` returned; what was detached or unmapped: the device's former path, or ``mapping`` when there was no
            device, or an empty string when there was neither; and warnings about what ``force`` lost.
        :raises FailedPreconditionError: it is in use; all holders are named.
        """
        if self.answered("disconnect", owner, name):
            return self._together.answer(Ask("disconnect", owner, name, {}))  # type: ignore[no-any-return]
        with self.consumer.lock(name):
            ask = self.ask_disconnect(owner, name, force=force, before=before)
            return ask.finish(self._together.answer(ask))  # type: ignore[no-any-return]

    def discard(self, owner: str, name: str, *volume_ids: str) -> str:
        """Remove what is left here of a volume that was taken from this host while it was fenced, and tell the controller.

        :param volume_ids: as :meth:`fenced` returned them.
        :returns: the stale device that was removed; empty when there was none, as after a boot.
        :raises AlreadyExistsError: what is attached here under the name belongs to another owner.
        :raises FailedPreconditionError: it is attached here under the name that it had before, and must go under that.
        """
        with self.consumer.lock(name):
            attached = self.consumer.attachment(name)
            if attached is not None and attached.owner != owner:
                raise AlreadyExistsError(f"the volume {name!r} that is attached here belongs to {attached.owner}, not to {owner}")
            former = next((a for a in self.consumer.attachments()[0] if a.volume_id in volume_ids and a.name != name), None)
            if former is not None:
                raise FailedPreconditionError(
                    f"volume {name!r} was taken from this host while it was fenced, and is still attached here as {former.name!r} of"
                    f" {former.owner}; apply storage_volume.disconnected to that first, which removes it and writes nothing"
                )
            found = self.consumer.discard(name)
            self.consumer.remove_mount_points(name)
            for volume_id in volume_ids:
                # Only when all is gone: from then on this host may be given the volume again.
                self._ask("disconnect", {"name": name, "volume_id": volume_id, **self._other(owner)})
            self.consumer.forget(name)
            if (kept := self._kept()) is not None:
                kept.unfence(*volume_ids)
            log.warning("storage: volume %r was taken from this host while it was fenced; what was left of it here was removed", name)
            return (attached.device or attached.path) if attached is not None and found.changed else ""

    def format(self, owner: str, name: str, fstype: str, options: list[str]) -> None:
        """Make a file system on an attached volume that is empty and was never formatted.

        :raises DataLossError: the volume was formatted before, and its device reads as empty.
        :raises StorageError: as :func:`saltstorage.consumer.filesystems.mkfs.make` says.
        """
        consumer = self.consumer
        with consumer.lock(name):
            device = consumer.device(name)
            begun = consumer.begin_format(name)
            was, ours = self._mark(owner, name, begun, consumer.end_format, {})
            if was and not ours:
                consumer.end_format(name)
                raise DataLossError(
                    f"volume {name!r} had a file system before, but {device} is empty; find out why. If nothing on it is needed, make the"
                    f" file system by hand (mkfs.{fstype} {device}) and apply again"
                )
            try:
                mkfs.make(device, fstype, options=options, resume=was and ours, timeout=consumer.config.format_timeout)
            except (AlreadyExistsError, FailedPreconditionError):
                # Refused before mkfs was run, so that nothing on the device is ours.
                consumer.end_format(name)
                raise
            consumer.end_format(name)

    def _open(self, volume: Volume, attachment: Attachment) -> bool:
        """Open an attached volume, encrypting it first when it is empty and never was; return whether it was encrypted now."""
        consumer, name, owner = self.consumer, volume.name, volume.owner
        made = consumer.needs_encryption(name)
        if made:
            if attachment.read_only:
                raise FailedPreconditionError(f"volume {name!r} is not encrypted yet, and is connected read-only", field="read_only")
            if volume.formatted and not volume.encrypted:
                # An adopted one, or its copy: whoever used it before may have been at work where nobody looked.
                raise DataLossError(
                    f"volume {name!r} was adopted, and {attachment.device} holds nothing encrypted; if nothing on it is needed, encrypt it"
                    f" by hand (cryptsetup luksFormat {attachment.device}) and apply again"
                )
            begun = consumer.begin_encryption(name)
            was, ours = self._mark(owner, name, begun, consumer.end_encryption, {"encryption": True})
            if was and not ours:
                consumer.end_encryption(name)
                raise DataLossError(
                    f"volume {name!r} was encrypted before, but {attachment.device} is empty; find out why. If nothing on it is needed,"
                    f" encrypt it by hand (cryptsetup luksFormat {attachment.device}) and apply again"
                )
            try:
                consumer.encrypt(name, resume=was and ours)
            except (AlreadyExistsError, FailedPreconditionError):
                consumer.end_encryption(name)
                raise
        consumer.open(name)
        if not made and not volume.encrypted and not attachment.read_only:
            # It was encrypted by others, or by hand: from now on nobody may use it as if it were not.
            self._ask("mark_formatted", {"name": name, "encryption": True, **self._other(owner)})
        return made

    def _mark(self, owner: str, name: str, begun: bool, end: Callable[[str], None], args: Mapping[str, Any]) -> tuple[bool, bool]:
        """Have the controller record that a volume is about to be formatted or encrypted.

        :param begun: whether this host's record says that it began that before.
        :param end: takes that back.
        :returns: whether it was recorded before, and whether what is on the device can then be what this host left.
        """
        try:
            was = self._ask("mark_formatted", {"name": name, **args, **self._other(owner)})["was"]
        except StorageError as error:
            if not begun and error.final:
                end(name)
            raise
        # Nothing is written before the mark: only with it can what is on the device be what was cut off. On a shared volume, it may
        # be what another host made meanwhile.
        return was, begun and owner == self.minion

    def _ask(self, op: str, args: Mapping[str, Any], timeout: float | None = None) -> dict[str, Any]:
        """Have the controller do something; what it says may succeed later is tried again, a few times."""
        for delay in RETRY_DELAYS:
            try:
                return self.controller.call(op, args, timeout)
            except StorageError as error:
                if not (error.retryable and error.answered):
                    raise
                log.info("storage: %s; trying again in %g s", error, delay)
                time.sleep(delay)
        return self.controller.call(op, args, timeout)

    # Requests, and everything that must be done before each.

    def ask_create(self, owner: str, name: str, wanted: VolumeSpec) -> Ask:
        """Return the request to create or grow a volume."""
        return Ask("create", owner, name, {"name": name, **wanted.to_wire(), **self._other(owner)})

    def ask_delete(self, owner: str, name: str, retain: bool | None = None) -> Ask:
        """Return the request to delete a volume, or only to let go of it."""
        given = {} if retain is None else {"retain": retain}
        return Ask("delete", owner, name, {"name": name, **given, **self._other(owner)})

    def ask_connect(self, owner: str, name: str, *, wanted: VolumeSpec | None, read_only: bool, mounts: bool, passphrase: str) -> Ask:
        """Record that a volume is about to be mapped to this host, and return the request for it."""
        # The host is looked at before anything is recorded or asked for: what it lacks is an error that leaves nothing.
        connector = of_run(self._context, self._run, "saltstorage.connector", self.consumer.connector_properties)
        if passphrase and not self.consumer.check(name).ok:
            self.consumer.passphrase(name, passphrase)
        intent = self.consumer.intend(owner, name, read_only=read_only, passphrase=passphrase)
        args = {"name": name, "connector": connector, "read_only": read_only, **self._other(owner)}
        if passphrase:
            args["encrypted"] = True
        if mounts and owner != self.minion:
            args["mounts"] = True
        if wanted is not None:
            args["create"] = wanted.to_wire()
        return Ask("connect", owner, name, args, stamp=intent.updated)

    def ask_disconnect(self, owner: str, name: str, *, force: bool, before: Callable[[], T]) -> Ask:
        """Detach a volume, and return the request to unmap it; call it with the volume's lock held until ``finish``."""
        first = before()
        attached = self.consumer.attachment(name)
        detached = self.consumer.detach(name, owner, force=force)

        def finish(reply: dict[str, Any]) -> tuple[T, str, tuple[str, ...]]:
            self.consumer.forget(name)
            if reply["connection"]:
                self.drop(Connection.from_wire(reply["connection"]))
            if detached.changed and attached is not None:
                return first, attached.device or attached.path or "half attached", detached.warnings
            return first, "mapping" if reply["connection"] else "", detached.warnings

        return Ask("disconnect", owner, name, {"name": name, **self._other(owner)}, finish)

    def answered(self, op: str, owner: str, name: str) -> bool:
        """Return whether this was asked for, and answered, together with the request of a state before."""
        return self._together.answered(op, owner, name)

    def _other(self, owner: str) -> dict[str, str]:
        """Name the owner only when it is not the minion: the controller knows who asks."""
        return {} if owner == self.minion else {"owner": owner}

    def _kept(self) -> Inventory | None:
        return current(self._context, self._run)

    def put(self, record: Volume | Snapshot | Connection) -> None:
        """Take up a record in the inventory of this run."""
        if (kept := self._kept()) is not None:
            kept.put(record)

    def drop(self, record: Volume | Snapshot | Connection) -> None:
        """Forget a record in the inventory of this run."""
        if (kept := self._kept()) is not None:
            kept.drop(record)

    def _forget_intent(self, name: str, error: StorageError) -> None:
        """Remove the intent after a refusal. When the outcome is not known, it stays: the volume may be mapped."""
        if not error.final:
            return
        now = self.consumer.attachment(name)
        if now is not None and now.state == records.INTENT and not now.volume_id:
            self.consumer.forget(name)

    def _drop_former(self, name: str, volume: Volume, read_only: bool, passphrase: str) -> None:
        """Start a new record when the present one is of a former volume of the name and nothing of that is attached."""
        now = self.consumer.attachment(name)
        if now is not None and now.volume_id not in ("", volume.id) and now.state in (records.INTENT, records.DETACHED):
            self.consumer.forget(name)
            self.consumer.intend(volume.owner, name, read_only=read_only, passphrase=passphrase)


def check_usable(volume: Volume) -> None:
    """Raise FailedPreconditionError when a volume is half created or half deleted."""
    if volume.state in (model.AVAILABLE, model.EXTENDING):
        return
    why = f" ({volume.error})" if volume.error else ""
    if volume.state == model.REVERTING:
        text = f"volume {volume.name!r} is being set back to a snapshot{why}; repeat that (storage.snapshot_revert) until it succeeds"
        raise FailedPreconditionError(text)
    raise FailedPreconditionError(f"volume {volume.name!r} is {volume.state}{why}; apply storage_volume.present or absent first")
