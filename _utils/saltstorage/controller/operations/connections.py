"""The controller's operations on connections: map a volume to a host, unmap it."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import Any

from ... import model, validate
from ...errors import AlreadyExistsError, FailedPreconditionError, InvalidArgumentError, PermissionDeniedError
from ...model import Connection, Fence, Snapshot, Volume
from ...providers.base import Capability
from ...rules import refuse_barred, refuse_other_encryption
from ...spec import VolumeSpec
from .core import Caller, Core, as_provider_volume, new_id
from .volumes import Volumes

log = logging.getLogger(__name__)


class Connections:
    """Mapping volumes to hosts. The export stays while any host is connected."""

    def __init__(self, core: Core, volumes: Volumes) -> None:
        self.core = core
        self.volumes = volumes

    def connect(
        self,
        caller: Caller,
        *,
        name: str,
        connector: Mapping[str, Any],
        read_only: bool = False,
        create: VolumeSpec | None = None,
        owner: str | None = None,
        mounts: bool = False,
        encrypted: bool = False,
    ) -> dict[str, Any]:
        """Map a volume to the calling minion, making sure first that it exists when ``create`` says how.

        :param connector: what os-brick says of the host.
        :param create: the volume is created, grown or changed first, as by :meth:`.Volumes.create`; None uses an existing one as it is.
        :param mounts: whether the host is going to mount a file system of it. Of a shared volume that is granted to one host alone, or to
            any number that only read, and stays so until that host disconnects it.
        :param encrypted: whether the host is going to use it encrypted; a volume with data of the other kind is refused.
        :returns: ``volume`` as it is now; ``old`` as it was before (None: it was created); ``connection``; ``new``:
            whether the mapping, or the right to mount, is; ``connection_info``: how to reach it, in Cinder's format, **with secrets**.
        """
        if caller.minion is None:
            raise PermissionDeniedError("a volume is connected by the minion that uses it: apply storage_volume.connected there")
        # Many drivers find the array's host entry by this name: with another's, the volumes of that host would be within reach.
        if connector.get("host") != caller.minion:
            raise PermissionDeniedError(f"connector:host must be the minion's id, {caller.minion}", field="connector:host")
        # A shared volume is never created or changed through a connection.
        shared = owner == validate.SHARED_OWNER
        owner = self.core.owner(caller, owner, name, change=create is not None and not shared)
        if shared:
            # Before it is locked: the file of the lock stays.
            self.core.volume(owner, name)
        sources = self.volumes.source_lock(owner, create) if create and not shared else []
        with self.core.held(caller, "connection", (owner, name), *sources):
            if create is not None:
                self.volumes.check_source_lock(owner, create, sources)
            self._refuse_other_encryption(owner, name, create, encrypted)
            old: Volume | None
            if create is not None and not shared:
                old, volume = self.volumes.ensure(caller, owner, name, create, anew=False)
            else:
                old = volume = self.volumes.usable(owner, name)
            return self._map(caller.minion, volume, old, connector, read_only, mounts and shared)

    def disconnect(
        self,
        caller: Caller,
        *,
        name: str,
        owner: str | None = None,
        host: str | None = None,
        fenced: bool = False,
        volume_id: str | None = None,
    ) -> dict[str, Any]:
        """Unmap a volume from a host.

        A minion unmaps itself, after it has let go of the device. The administrator can unmap any host, but must
        confirm with ``fenced`` that the host cannot write any more: it is powered off, or cut off from the storage network. That is
        recorded: the host gets the volume again only after it has removed what it still had of it, and said so with ``volume_id``.

        :param volume_id: id of the volume, of which the calling minion has removed all that it had: that it was fenced is forgotten. By now
            the volume may have another name, be another owner's, or be gone; another one that has ``name`` by now is left alone.
        :returns: ``connection`` as it was, None when there was none.
        """
        owner = self.core.owner(caller, owner, name, change=False, release=True)
        host = self._host(caller, host, fenced)
        if volume_id is not None:
            self._unfence(caller, volume_id)
        if not self._known(owner, name, host):
            # Without a lock: there is nothing that it would guard.
            return {"connection": None}
        with self.core.held(caller, "disconnection", (owner, name)):
            volume = self.core.catalog.volume(owner, name)
            if volume is None or volume_id not in (None, volume.id):
                return {"connection": None}
            connection = self.core.catalog.connection(volume.id, host)
            if connection is None:
                return {"connection": None}
            if caller.admin and self.core.catalog.fence(volume.id, host) is None:
                # Before the mapping goes: from then on, what the host still has is stale.
                self.core.catalog.add(
                    Fence(
                        id=new_id(),
                        volume_id=volume.id,
                        attached_id=volume.id,
                        owner=volume.owner,
                        volume=volume.name,
                        host=host,
                        created=time.time(),
                    )
                )
            self.unmap(volume, connection)
        if caller.admin:
            log.warning(
                "storage: volume %s of %s was unmapped from %s on the administrator's word that it is fenced", volume.id, owner, host
            )
        return {"connection": connection.to_wire()}

    def followed(self, caller: Caller, *, name: str, size: int, owner: str | None = None) -> dict[str, Any]:
        """Record that a volume that has grown has its size on the calling minion too, and what that has on it.

        :param size: GiB that the device has there.
        :returns: ``connection`` as it is now.
        """
        owner = self.core.owner(caller, owner, name, change=False)
        self.core.volume(owner, name)
        with self.core.held(caller, "following", (owner, name)):
            volume = self.volumes.usable(owner, name)
            connection = self._connected(caller, volume)
            connection = self.core.catalog.update(connection, size=min(size, volume.size))
        return {"connection": connection.to_wire()}

    def mark_formatted(self, caller: Caller, *, name: str, owner: str | None = None, encryption: bool = False) -> dict[str, Any]:
        """Record that the calling minion is about to make a file system on a volume that is connected to it, or to encrypt it.

        :param encryption: whether it is to be encrypted; the file system comes after that, and is asked for again.
        :returns: ``was``: whether that was recorded before; if so, it may not be done.
        :raises AlreadyExistsError: it is to be encrypted, and there may be a file system on it.
        """
        owner = self.core.owner(caller, owner, name, change=False)
        self.core.volume(owner, name)
        with self.core.held(caller, "formatting", (owner, name)):
            volume = self.volumes.usable(owner, name)
            connection = self._connected(caller, volume)
            if connection.read_only:
                raise FailedPreconditionError(f"volume {name!r} is connected to {caller} read-only")
            if encryption:
                refuse_other_encryption(volume, True)
            was = bool(volume.encrypted) if encryption else volume.formatted
            if not was:
                self.core.catalog.update(volume, **{"encrypted" if encryption else "formatted": True})
        return {"was": was}

    def unmap(self, volume: Volume, connection: Connection) -> None:
        """Unmap, with the volume's lock held; the record goes last."""
        others = [c for c in self.core.catalog.connections(volume_id=volume.id) if c.id != connection.id]
        self.core.catalog.update(connection, state=model.DISCONNECTING)
        provider = self.core.provider(volume.backend)
        provider.disconnect(as_provider_volume(volume), connection.id, connection.connector, last=not others)
        self.core.catalog.remove(connection)

    def _connected(self, caller: Caller, volume: Volume) -> Connection:
        connection = self.core.catalog.connection(volume.id, caller.minion or "")
        if connection is None or connection.state != model.CONNECTED:
            raise FailedPreconditionError(f"volume {volume.name!r} is not connected to {caller}; connect it first")
        return connection

    def _refuse_other_encryption(self, owner: str, name: str, create: VolumeSpec | None, encrypted: bool) -> None:
        """Refuse before anything is created, grown or mapped."""
        found: Volume | Snapshot | None = self.core.catalog.volume(owner, name)
        if (found is None or found.state in (model.CREATING, model.DELETING, model.ERROR)) and create is not None:
            # It is about to be made.
            found = self.volumes.find_source(owner, create)
        if found is not None:
            refuse_other_encryption(found, encrypted)

    def _unfence(self, caller: Caller, volume_id: str) -> None:
        """Forget that the calling minion was fenced, of one volume; never that another host was."""
        # Without the volume's lock: a minion is told nothing of what others do with a volume that is not its own any more.
        for known_by in ("volume_id", "attached_id"):
            for fence in self.core.catalog.fences(host=caller.minion or "", **{known_by: volume_id}):
                self.core.catalog.remove(fence)

    def _known(self, owner: str, name: str, host: str) -> bool:
        """Return whether a host is connected to a volume."""
        volume = self.core.catalog.volume(owner, name)
        return volume is not None and self.core.catalog.connection(volume.id, host) is not None

    def _map(
        self, host: str, volume: Volume, old: Volume | None, connector: Mapping[str, Any], read_only: bool, mounts: bool
    ) -> dict[str, Any]:
        if (fence := self.core.catalog.fence(volume.id, host)) is not None:
            raise FailedPreconditionError(
                f"volume {volume.name!r} was taken from {host} while that was fenced; apply storage_volume.disconnected there first, which"
                " removes the stale device and writes nothing to it",
                details={"fenced": True, "volume_ids": fence.ids},
            )
        connections = self.core.catalog.connections(volume_id=volume.id)
        mine = next((c for c in connections if c.host == host), None)
        others = [c for c in connections if c.host != host]
        provider = self.core.provider(volume.backend)
        if mine is not None and mine.state == model.CONNECTED and mine.read_only != read_only:
            have, want = ("read-only", "for writing") if mine.read_only else ("for writing", "read-only")
            raise AlreadyExistsError(
                f"volume {volume.name!r} is connected {have}; disconnect it before connecting it {want}", field="read_only"
            )
        if others and (volume.owner != validate.SHARED_OWNER or Capability.MULTIATTACH not in provider.capabilities()):
            hosts = ", ".join(c.host for c in others)
            raise FailedPreconditionError(
                f"volume {volume.name!r} is attached to {hosts}; disconnect it there first", details={"hosts": [c.host for c in others]}
            )
        mounts = mounts or (mine is not None and mine.mounts)
        refuse_barred(volume, others, read_only=read_only, mounts=mounts)
        if mine is not None:
            merged = provider.merge_connectors(as_provider_volume(volume), mine.id, mine.connector, connector)
            if merged is None:
                # As after a new installation. The old initiators go before the record of them does.
                log.warning("storage: %s has other initiators than volume %s was mapped to; those are unmapped", host, volume.id)
                self.unmap(volume, mine)
                mine = None
            else:
                connector = merged
        new = mine is None
        granted = mine is None or mine.mounts != mounts
        if mine is None:
            mine = Connection(
                id=new_id(),
                volume_id=volume.id,
                owner=volume.owner,
                volume=volume.name,
                host=host,
                size=volume.size,
                state=model.CONNECTING,
                read_only=read_only,
                mounts=mounts,
                created=time.time(),
                connector=connector,
            )
            self.core.catalog.add(mine)
        else:
            # Before the driver is asked, and with every initiator that it was ever asked for: all of them are unmapped one day.
            mine = self.core.catalog.update(mine, connector=connector, read_only=read_only, mounts=mounts)
        try:
            info = provider.connect(as_provider_volume(volume), mine.id, connector, read_only=read_only)
        except BaseException:
            if new:
                self._undo_connect(volume, mine)
            raise
        mine = self.core.catalog.update(mine, state=model.CONNECTED)
        return {
            "volume": volume.to_wire(),
            "old": old.to_wire() if old else None,
            "connection": mine.to_wire(),
            "new": granted,
            "connection_info": info,
        }

    def _undo_connect(self, volume: Volume, connection: Connection) -> None:
        try:
            self.unmap(volume, connection)
        except Exception as error:
            # The record stays as "disconnecting": the next request or start finishes it.
            log.error("storage: volume %s could not be mapped to %s, nor be unmapped: %s", volume.id, connection.host, type(error).__name__)

    def _host(self, caller: Caller, host: str | None, fenced: bool) -> str:
        if caller.minion is not None:
            if host is not None and host != caller.minion:
                raise PermissionDeniedError(
                    f"{caller} may not disconnect {host}; use salt-run storage.disconnect on the master", field="host"
                )
            return caller.minion
        if host is None:
            raise InvalidArgumentError("name the host, which is the minion's id", field="host")
        if not fenced:
            raise FailedPreconditionError(
                f"{host} may still write to the volume. Apply storage_volume.disconnected on it; if it is dead, cut it off"
                " (power off, or block its initiator), and confirm that with fenced=True",
                field="fenced",
            )
        return host
