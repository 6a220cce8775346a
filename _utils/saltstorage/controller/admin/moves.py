"""Moves a volume to another backend: copy on the controller, compare, switch.

The former volume is removed only when the administrator says so. At every moment the catalog
accounts for both copies. The volume's record names one, a :class:`~saltstorage.model.Move` the
other:

========  =======================  =========================  =====================================
move      the volume's record      the other one              after a crash
========  =======================  =========================  =====================================
copying   the source, `migrating`  the target, half there     the target goes, the volume as before
moved     the target               the source, kept           nothing
removing  the target               the source                 the source is deleted
========  =======================  =========================  =====================================
"""

from __future__ import annotations

import dataclasses
import logging
import shlex
import time
import uuid
from collections.abc import Callable
from typing import Any

from ... import model, validate
from ...consumer.consumer import Consumer
from ...errors import FailedPreconditionError, InvalidArgumentError, StorageError
from ...model import Move, Volume
from ...providers import Capability, ProviderVolume
from ..access.config import TypeEntry
from ..operations import identities
from ..operations.core import Caller, Core, new_id, require
from ..operations.placement import Placement, request_for
from ..operations.volumes import Volumes
from . import copying

log = logging.getLogger(__name__)

#: Owner in the attachment records of the controller; the names there are the ids of the volumes.
_CONTROLLER = "controller"


class Moves:
    """The administrator's operations that move volumes between backends."""

    def __init__(self, core: Core, volumes: Volumes, mover: Mover) -> None:
        self.core = core
        self.volumes = volumes
        self.mover = mover

    def migrate(self, *, owner: Any, name: Any, backend: Any, delete_old: Any = False) -> dict[str, Any]:
        """Move a volume that no host uses to another backend.

        :param delete_old: whether to delete the former volume from its backend; otherwise
            :meth:`finish` deletes it later.
        :returns: ``old`` as it was, ``volume`` as it is now, ``move``: the record of the former
            volume (None: it was deleted), and ``checksum`` of the data (None: the volume was there
            already).
        :raises FailedPreconditionError: it is connected, or has snapshots, or the former volume of
            an earlier move is not removed yet.
        :raises DataLossError: the copy differs; the volume stays where it is.
        """
        owner, name = validate.name(owner, "owner"), validate.name(name)
        delete_old = validate.boolean(delete_old, "delete_old")
        if backend is None:
            raise InvalidArgumentError("name the backend that the volume shall be moved to", field="backend")
        entry = self.core.config.backend(backend)
        with self.core.held(Caller(), f"move to {entry.name!r}", (owner, name)):
            old = self.volumes.usable(owner, name)
            left = next(iter(self.core.catalog.moves(owner=owner, name=name)), None)
            if old.backend == entry.name:
                if left is not None and delete_old:
                    self.mover.remove_old(left)
                    left = None
                return {"old": old.to_wire(), "volume": old.to_wire(), "move": left.to_wire() if left else None, "checksum": None}
            if left is not None:
                raise FailedPreconditionError(
                    f"volume {name!r} of {owner} was moved before, and {left.source_backend!r} still has the former one;"
                    f" salt-run storage.migrate_finish {shlex.join([name, owner])} deletes it"
                )
            self.volumes.check_unused(old)
            kind = self.core.config.type(old.type) if old.type else None
            self.core.config.choose_backends(entry.name, kind)
            if kind is not None and kind.specs:
                require(self.core.provider(entry.name), Capability.SPECS, entry.name, f"apply the specs of type {kind.name!r}")
            volume, move, checksum = self.mover.move(old, entry.name, kind)
            log.warning("storage: volume %s of %s moved from %s to %s as %s", old.id, owner, old.backend, entry.name, volume.id)
            if delete_old:
                self.mover.remove_old(move)
        return {
            "old": old.to_wire(),
            "volume": volume.to_wire(),
            "move": None if delete_old else move.to_wire(),
            "checksum": checksum,
        }

    def finish(self, *, owner: Any, name: Any) -> dict[str, Any]:
        """Delete the former volume of a move from the backend that it comes from.

        :returns: ``removed``: the move whose former volume was deleted, None when there was none.
        """
        owner, name = validate.name(owner, "owner"), validate.name(name)
        if not self.core.catalog.moves(owner=owner, name=name):
            return {"removed": None}
        with self.core.held(Caller(), "end of a move", (owner, name)):
            move = next((m for m in self.core.catalog.moves(owner=owner, name=name) if m.state != model.COPYING), None)
            if move is not None:
                self.mover.remove_old(move)
        return {"removed": move.to_wire() if move else None}


class Mover:
    """The steps of a move, with the volume's lock held.

    :param consumer: returns the consumer that attaches volumes on this machine, with records of
        its own.
    """

    def __init__(self, core: Core, consumer: Callable[[], Consumer]) -> None:
        self.core = core
        self.placement = Placement(core)
        self._consumer = consumer

    def settle(self, volume: Volume, *, fenced: str | None = None) -> Volume:
        """Undo a move that was interrupted while it copied: the volume stays where it was.

        :param fenced: controller that cannot detach the volumes itself and, on the administrator's
            word, cannot write to them any more.
        :raises FailedPreconditionError: another controller was moving it.
        """
        move = next((m for m in self.core.catalog.moves(source_id=volume.id) if m.state == model.COPYING), None)
        if move is None:
            return self.core.catalog.update(volume, state=model.AVAILABLE)
        try:
            self._undo(volume, move, fenced=fenced)
        except StorageError as error:
            self.core.catalog.update(move, error=error.message)
            raise
        log.warning("storage: the move of volume %s to %s was cut off and is undone", volume.id, move.target_backend)
        return self.core.catalog.update(volume, state=model.AVAILABLE)

    def recover(self, move: Move) -> None:
        """Finish the removal, or undo the copying, of an interrupted move."""
        now = next(iter(self.core.catalog.moves(id=move.id)), None)
        if now is None:
            return
        if now.state == model.REMOVING:
            self.remove_old(now)
        elif now.state == model.COPYING and (volume := self.core.catalog.volume_by_id(now.source_id)) is not None:
            self.settle(volume)

    def move(self, old: Volume, backend: str, kind: TypeEntry | None) -> tuple[Volume, Move, str]:
        """Copy a volume to another backend and switch to the copy; return the volume there, the
        move, and the checksum.
        """
        # Both must be up before anything is written.
        self.core.provider(old.backend)
        self.core.provider(backend)
        consumer = self._consumer()
        self._tidy(consumer)
        move = Move(
            id=new_id(),
            owner=old.owner,
            name=old.name,
            source_id=old.id,
            source_backend=old.backend,
            target_id=new_id(),
            target_backend=backend,
            size=old.size,
            host=consumer.config.host,
            created=time.time(),
            connector={**consumer.connector_properties(), "host": identities.host_name(consumer.config.host)},
        )
        self.core.catalog.apply(add=[move], update=[(old, {"state": model.MIGRATING})])
        try:
            size, checksum = self._copy(consumer, move, kind)
        except BaseException as error:
            try:
                self._undo(old, move)
            except Exception as second:
                text = error.message if isinstance(error, StorageError) else type(error).__name__
                log.error("storage: volume %s did not move and the copy is not cleaned up yet: %s", old.id, type(second).__name__)
                self.core.catalog.update(move, error=text)
            raise
        self.core.catalog.apply(
            update=[
                (old, {"id": move.target_id, "backend": backend, "size": size, "state": model.AVAILABLE}),
                (move, {"state": model.MOVED}),
                # A fenced host must still remove its stale device before it gets the volume again.
                *((fence, {"volume_id": move.target_id}) for fence in self.core.catalog.fences(volume_id=old.id)),
                # Its copies refer to it by its id, wherever it is.
                *((copy, {"source": {**(copy.source or {}), "id": move.target_id}}) for copy in self._find_copies(old)),
            ]
        )
        return self.core.volume(old.owner, old.name), self.core.catalog.moves(id=move.id)[0], checksum

    def _find_copies(self, volume: Volume) -> list[Volume]:
        """Return the volumes that were made from a volume. While its lock is held, no more of them
        are made.

        No index has the source, so the database looks at each row; beside the copying of a volume
        that is nothing.
        """
        from ..catalog.listing import find_copies

        return find_copies(self.core.catalog, volume.id)

    def _copy(self, consumer: Consumer, move: Move, kind: TypeEntry | None) -> tuple[int, str]:
        """Make the copy and compare it; afterwards nothing is attached or mapped any more."""
        source, target = _ends(move)
        new = dataclasses.replace(target, extra_specs=kind.extra_specs, qos_specs=kind.qos_specs) if kind is not None else target
        size = self._create(new, move, kind)
        source_path = self._attach(consumer, move, move.source_backend, source, read_only=True)
        target_path = self._attach(consumer, move, move.target_backend, target, read_only=False)
        checksum = copying.copy(source_path, target_path)
        copying.verify(source_path, target_path, checksum)
        self._let_go(move)
        return size, checksum

    def _create(self, new: ProviderVolume, move: Move, kind: TypeEntry | None) -> int:
        """Create the copy in a pool that has room."""
        request = request_for(kind, move.size, [move.target_backend], {})
        # The record that is `migrating` is that of the source.
        with self.placement.chosen(request, move.source_id) as (backend, reservation):
            self.core.catalog.add(reservation)
        try:
            size = self.core.provider(backend).create_volume(dataclasses.replace(new, pool=reservation.pool))
        except BaseException:
            self.placement.forget(reservation)
            raise
        self.placement.settle(reservation)
        return size

    def _attach(self, consumer: Consumer, move: Move, backend: str, end: ProviderVolume, *, read_only: bool) -> str:
        connection_id = _connection_id(move, end)
        provider = self.core.provider(backend)
        identities.Identities(self.core.catalog).claim(move.host, move.connector, frozenset(provider.initiators()))
        info = provider.connect(end, connection_id, move.connector)
        known = self.core.catalog.volume_by_id(end.id)
        volume = Volume(
            id=end.id, owner=_CONTROLLER, name=end.id, backend=backend, size=end.size, source=known.source if known is not None else None
        )
        return consumer.attach(
            volume, connection_id=connection_id, connection_info=info, connector=move.connector, read_only=read_only
        ).path

    def _let_go(self, move: Move, *, fenced: str | None = None) -> None:
        """Detach and unmap both, as far as they are; of a fenced controller, only unmap them."""
        consumer = self._consumer()
        here = consumer.config.host == move.host
        if not here and fenced != move.host:
            raise FailedPreconditionError(
                f"volume {move.name!r} of {move.owner} is attached on the controller {move.host}, which was moving it. The storage engine"
                f" there undoes that when it starts, and so does salt-run storage.repair apply=True there; if {move.host} is dead, cut it"
                " off (power off, or block its initiator), and confirm that on a controller that lives with"
                f" salt-run storage.repair fenced={move.host} apply=True",
                field="fenced",
                details={"host": move.host},
            )
        for backend, end in zip((move.source_backend, move.target_backend), _ends(move), strict=True):
            if here:
                consumer.detach(end.id)
                consumer.forget(end.id)
            self.core.provider(backend).disconnect(end, _connection_id(move, end), move.connector, last=True)
        if not here:
            text = "storage: volume %s and its copy were unmapped from the controller %s on the administrator's word that it is fenced"
            log.warning(text, move.source_id, fenced)

    def _tidy(self, consumer: Consumer) -> None:
        """Discard this controller's attachments of moves that were undone elsewhere while it was
        fenced; nothing is written to them.

        A move is recorded before anything is attached for it, and until all is detached, so an
        attachment without a move is a leftover.
        """
        kept, _ = consumer.attachments()
        running = {volume_id for move in self.core.catalog.moves(state=model.COPYING) for volume_id in (move.source_id, move.target_id)}
        for attachment in kept:
            if attachment.name not in running:
                consumer.discard(attachment.name)
                consumer.forget(attachment.name)

    def _undo(self, volume: Volume, move: Move, *, fenced: str | None = None) -> None:
        self._let_go(move, fenced=fenced)
        self.core.provider(move.target_backend).delete_volume(_ends(move)[1])
        self.core.catalog.apply(update=[(volume, {"state": model.AVAILABLE})], remove=[move])

    def remove_old(self, move: Move) -> None:
        """Delete the former volume of a move from the backend that it comes from."""
        move = self.core.catalog.update(move, state=model.REMOVING)
        try:
            self.core.provider(move.source_backend).delete_volume(_ends(move)[0])
        except StorageError as error:
            self.core.catalog.update(move, error=error.message)
            raise
        self.core.catalog.remove(move)


def _ends(move: Move) -> tuple[ProviderVolume, ProviderVolume]:
    """Return the source and the target."""
    return (
        ProviderVolume(id=move.source_id, size=move.size, name=move.name),
        ProviderVolume(id=move.target_id, size=move.size, name=move.name),
    )


def _connection_id(move: Move, end: ProviderVolume) -> str:
    """Return the id of the controller's connection to one of the two volumes; the same after a
    crash.
    """
    return str(uuid.uuid5(uuid.UUID(move.id), end.id))
