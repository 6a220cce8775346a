"""The controller's operations on connections: map a volume to a host, unmap it."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Mapping
from typing import Any

from ... import model, validate
from ...errors import AlreadyExistsError, FailedPreconditionError, InvalidArgumentError, PermissionDeniedError
from ...model import Connection, Fence, Snapshot, Volume
from ...providers.base import Capability, Provider
from ...rules import refuse_barred, refuse_other_encryption
from ...spec import VolumeSpec
from . import identities
from .core import Caller, Core, as_provider_volume, new_id
from .volumes import Volumes

log = logging.getLogger(__name__)


class Connections:
    """Mapping volumes to hosts. The export stays while any host is connected."""

    def __init__(self, core: Core, volumes: Volumes) -> None:
        self.core = core
        self.volumes = volumes
        self.identities = identities.Identities(core.catalog)

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
        """Map a volume to the calling minion, after creating, growing or changing it when
        ``create`` is given.

        :param connector: the host's properties, as os-brick returns them.
        :param create: the volume as it shall be, as for :meth:`.Volumes.create`; None uses an
            existing volume as it is. A shared volume is never created or changed through a
            connection.
        :param mounts: whether the host is going to mount a file system of it. For a shared
            volume, one host alone may mount, or any number of hosts that only read; the host
            keeps that right until it disconnects the volume.
        :param encrypted: whether the host is going to use it encrypted; a volume with data of the
            other kind is refused.
        :returns: ``volume`` as it is now; ``old`` as it was before (None: it was created);
            ``connection``; ``new``: whether the mapping, or the right to mount, is new;
            ``connection_info``: the way to it, in Cinder's format, **with secrets**.
        """
        if caller.minion is None:
            raise PermissionDeniedError("a volume is connected by the minion that uses it: apply storage_volume.connected there")
        # Many drivers find the array's host entry by this name: another minion's name would bring
        # that minion's volumes within reach.
        if connector.get("host") != caller.minion:
            raise PermissionDeniedError(f"connector:host must be the minion's id, {caller.minion}", field="connector:host")
        connector = {**connector, "host": identities.host_name(caller.minion)}
        # Before anything is created for a host whose initiators nobody can take.
        list(identities.values(connector))

        def check(provider: Provider) -> None:
            """Refuse a host that the volume could not be mapped to, before it is created."""
            provider.check_connector(connector)
            self.identities.claim(caller.minion or "", connector, frozenset(provider.initiators()))

        shared = owner == validate.SHARED_OWNER
        if shared:
            create = None
        owner = self.core.owner(caller, owner, name, change=create is not None)
        if shared:
            # Before it is locked: the file of the lock stays.
            self.core.volume(owner, name)
        sources = self.volumes.sources.locks(owner, create) if create is not None else []
        with self.core.held(caller, "connection", (owner, name), *sources):
            if create is not None:
                self.volumes.sources.check_locks(owner, create, sources)
            self._refuse_other_encryption(owner, name, create, encrypted)
            old: Volume | None
            if create is not None:
                old, volume = self.volumes.ensure(caller, owner, name, create, anew=False, check=check)
            else:
                old = volume = self.volumes.usable(owner, name)
            self._refuse_fenced(volume, caller.minion)
            mapped = self._map(volume, caller.minion, connector, read_only=read_only, mounts=mounts and shared)
        return {"volume": volume.to_wire(), "old": old.to_wire() if old else None, **mapped}

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

        A minion unmaps itself, after it has let go of the device. The administrator can unmap any
        host, but must confirm with ``fenced`` that the host cannot write any more: it is powered
        off, or cut off from the storage network. A fence records that: the host gets the volume
        again only after it has removed its stale device, and confirmed that with ``volume_id``.

        :param volume_id: the calling minion confirms that it removed every trace of the volume
            with this id; its fence is then lifted. The id decides, not the name: the volume may
            have been renamed, given away or deleted since.
        :returns: ``connection`` as it was, None when there was none.
        """
        owner = self.core.owner(caller, owner, name, change=False, release=True)
        host = self._host(caller, host, fenced)
        if volume_id is not None:
            self._unfence(caller, volume_id)
        if not self._is_connected(owner, name, host):
            # Without a lock, which would guard nothing.
            return {"connection": None}
        with self.core.held(caller, "disconnection", (owner, name)):
            volume = self.core.catalog.volume(owner, name)
            if volume is None or volume_id not in (None, volume.id):
                return {"connection": None}
            connection = self.core.catalog.connection(volume.id, host)
            if connection is None:
                return {"connection": None}
            if caller.admin and self.core.catalog.fence(volume.id, host) is None:
                # Before the mapping goes: from then on, the host's device is stale.
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
        """Record that a grown volume, and the file system on it, have their size on the calling
        minion too.

        :param size: size of the device there, GiB.
        :returns: ``connection`` as it is now.
        """
        owner = self.core.owner(caller, owner, name, change=False)
        self.core.volume(owner, name)
        with self.core.held(caller, "following", (owner, name)):
            volume = self.volumes.usable(owner, name)
            connection = self._find_connection(caller, volume)
            connection = self.core.catalog.update(connection, size=min(size, volume.size))
        return {"connection": connection.to_wire()}

    def mark_formatted(self, caller: Caller, *, name: str, owner: str | None = None, encryption: bool = False) -> dict[str, Any]:
        """Record that the calling minion is about to make a file system on a volume that is
        connected to it, or to encrypt it.

        :param encryption: whether it is to be encrypted; the minion asks again for the file
            system, which comes after that.
        :returns: ``was``: whether that was recorded before; the minion may not do it a second
            time.
        :raises AlreadyExistsError: it is to be encrypted, and there may be a file system on it.
        """
        owner = self.core.owner(caller, owner, name, change=False)
        self.core.volume(owner, name)
        with self.core.held(caller, "formatting", (owner, name)):
            volume = self.volumes.usable(owner, name)
            connection = self._find_connection(caller, volume)
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

    def _find_connection(self, caller: Caller, volume: Volume) -> Connection:
        connection = self.core.catalog.connection(volume.id, caller.minion or "")
        if connection is None or connection.state != model.CONNECTED:
            raise FailedPreconditionError(f"volume {volume.name!r} is not connected to {caller}; connect it first")
        return connection

    def _refuse_other_encryption(self, owner: str, name: str, create: VolumeSpec | None, encrypted: bool) -> None:
        """Refuse before anything is created, grown or mapped."""
        found: Volume | Snapshot | None = self.core.catalog.volume(owner, name)
        if (found is None or found.state in (model.CREATING, model.DELETING, model.ERROR)) and create is not None:
            # The volume is about to be created.
            found = self.volumes.sources.find(owner, create)
        if found is not None:
            refuse_other_encryption(found, encrypted)

    def _unfence(self, caller: Caller, volume_id: str) -> None:
        """Lift the calling minion's fence of one volume; never another host's."""
        # Without the volume's lock: the volume may be another owner's now, and the wait would
        # show the minion that owner's work.
        for known_by in ("volume_id", "attached_id"):
            for fence in self.core.catalog.fences(host=caller.minion or "", **{known_by: volume_id}):
                self.core.catalog.remove(fence)

    def _is_connected(self, owner: str, name: str, host: str) -> bool:
        """Return whether a host is connected to a volume."""
        volume = self.core.catalog.volume(owner, name)
        return volume is not None and self.core.catalog.connection(volume.id, host) is not None

    def _refuse_fenced(self, volume: Volume, host: str) -> None:
        """Refuse a host that may still have a stale device of the volume."""
        if (fence := self.core.catalog.fence(volume.id, host)) is not None:
            raise FailedPreconditionError(
                f"volume {volume.name!r} was taken from {host} while that was fenced; apply storage_volume.disconnected there first, which"
                " removes the stale device and writes nothing to it",
                details={"fenced": True, "volume_ids": fence.ids},
            )

    def _map(self, volume: Volume, host: str, connector: Mapping[str, Any], *, read_only: bool, mounts: bool) -> dict[str, Any]:
        """Map a volume to a host, with the volume's lock held; return ``connection``, ``new`` and
        ``connection_info`` of the answer.
        """
        # Before anything is recorded: the backend may be down.
        provider = self.core.provider(volume.backend)
        # Before the driver may let them in.
        self.identities.claim(host, connector, frozenset(provider.initiators()))
        connections = self.core.catalog.connections(volume_id=volume.id)
        mine = next((c for c in connections if c.host == host), None)
        mounts = mounts or (mine is not None and mine.mounts)
        self._check_others(volume, mine, [c for c in connections if c.host != host], read_only=read_only, mounts=mounts)
        before = self._merge(volume, mine, connector) if mine is not None else None
        if before is None:
            connection = Connection(
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
            self.core.catalog.add(connection)
        else:
            # Before the driver is asked, and with every initiator that it was ever asked for: all
            # of them must be unmapped one day.
            connection = self.core.catalog.update(before, connector=before.connector, read_only=read_only, mounts=mounts)
        try:
            info = provider.connect(as_provider_volume(volume), connection.id, connection.connector, read_only=read_only)
        except BaseException:
            if before is None:
                self._undo_connect(volume, connection)
            raise
        connection = self.core.catalog.update(connection, state=model.CONNECTED)
        return {"connection": connection.to_wire(), "new": before is None or before.mounts != mounts, "connection_info": info}

    def _check_others(self, volume: Volume, mine: Connection | None, others: list[Connection], *, read_only: bool, mounts: bool) -> None:
        """Refuse a mapping that contradicts the volume's connections.

        :param mine: the host's own connection, if there is one.
        :param others: the connections of other hosts.
        :raises AlreadyExistsError: the host is connected in the other mode.
        :raises FailedPreconditionError: other hosts are in the way.
        """
        if mine is not None and mine.state == model.CONNECTED and mine.read_only != read_only:
            have, want = ("read-only", "for writing") if mine.read_only else ("for writing", "read-only")
            raise AlreadyExistsError(
                f"volume {volume.name!r} is connected {have}; disconnect it before connecting it {want}", field="read_only"
            )
        if others and not (volume.owner == validate.SHARED_OWNER and self._attaches_to_many(volume)):
            hosts = [c.host for c in others]
            text = f"volume {volume.name!r} is attached to {', '.join(hosts)}; disconnect it there first"
            raise FailedPreconditionError(text, details={"hosts": hosts})
        refuse_barred(volume, others, read_only=read_only, mounts=mounts)

    def _attaches_to_many(self, volume: Volume) -> bool:
        return Capability.MULTIATTACH in self.core.provider(volume.backend).capabilities()

    def _merge(self, volume: Volume, mine: Connection, connector: Mapping[str, Any]) -> Connection | None:
        """Return a host's connection with the initiators that it ever had and has now.

        A host that has other initiators than before, as after a new installation, is unmapped
        first: None. The old initiators go before the record of them does.
        """
        provider = self.core.provider(volume.backend)
        merged = provider.merge_connectors(as_provider_volume(volume), mine.id, mine.connector, connector)
        if merged is not None:
            # The array knows the host by the name of the first time.
            return dataclasses.replace(mine, connector={**merged, "host": mine.connector.get("host", connector["host"])})
        log.warning("storage: %s has other initiators than volume %s was mapped to; those are unmapped", mine.host, volume.id)
        self.unmap(volume, mine)
        return None

    def _undo_connect(self, volume: Volume, connection: Connection) -> None:
        try:
            self.unmap(volume, connection)
        except Exception as error:
            # The record stays "disconnecting": the next request or start finishes it.
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
