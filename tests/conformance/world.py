"""The things that a test makes on the backend, and their removal."""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from saltstorage.controller.access.config import TypeEntry
from saltstorage.providers import Capability, Provider, ProviderSnapshot, ProviderVolume, reference_text


@dataclass
class World:
    """Makes things on the backend, and takes them away in reverse order when the test ends.

    :ivar types: types whose specs the backend takes.
    :ivar limits: abilities that cannot be tried here.
    """

    provider: Provider
    types: Sequence[TypeEntry] = ()
    limits: Collection[Capability] = ()
    undo: list[Callable[[], Any]] = field(default_factory=list)
    volumes: list[ProviderVolume] = field(default_factory=list)
    snapshots: list[ProviderSnapshot] = field(default_factory=list)

    def can(self, *capabilities: Capability) -> bool:
        """Return whether the backend has these capabilities, and it is known how to try them."""
        able = self.provider.capabilities().difference(self.limits).issuperset(capabilities)
        return able and (Capability.SPECS not in capabilities or bool(self.types))

    def volume(
        self, size: int = 1, source: ProviderVolume | ProviderSnapshot | None = None, kind: TypeEntry | None = None
    ) -> ProviderVolume:
        """Create a volume, and return it as the service names it from then on: with the delivered
        size, GiB, and without specs.
        """
        volume = self.new(size, kind)
        delivered = self.provider.create_volume(volume, source=source)
        assert delivered >= size
        return dataclasses.replace(volume, size=delivered, extra_specs={}, qos_specs={})

    def new(self, size: int = 1, kind: TypeEntry | None = None) -> ProviderVolume:
        """Return a volume that is not created, and delete it at the end all the same."""
        specs = {"extra_specs": kind.extra_specs, "qos_specs": kind.qos_specs} if kind is not None else {}
        volume = ProviderVolume(id=str(uuid.uuid4()), size=size, name="conformance – 测试", **specs)
        self.undo.append(lambda: self.provider.delete_volume(volume))
        self.volumes.append(volume)
        return volume

    def snapshot(self, volume: ProviderVolume) -> ProviderSnapshot:
        """Take a snapshot."""
        snapshot = ProviderSnapshot(id=str(uuid.uuid4()), volume_id=volume.id, size=volume.size, name="snap")
        self.undo.append(lambda: self.provider.delete_snapshot(snapshot))
        self.snapshots.append(snapshot)
        self.provider.create_snapshot(snapshot)
        return snapshot

    def connect(self, volume: ProviderVolume, host: str, *, read_only: bool = False, connection_id: str = "") -> tuple[str, dict[str, Any]]:
        """Connect a host, and return the connection's id and the provider's answer."""
        connection_id = connection_id or str(uuid.uuid4())
        self.undo.append(lambda: self.provider.disconnect(volume, connection_id, connector(host), last=True))
        return connection_id, self.provider.connect(volume, connection_id, connector(host), read_only=read_only)

    def disconnect(self, volume: ProviderVolume, connection_id: str, host: str, *, last: bool = True) -> None:
        """Disconnect a host."""
        self.provider.disconnect(volume, connection_id, connector(host), last=last)

    def clean(self) -> None:
        """Undo everything, latest first, also after a failure; then nothing may be left."""
        problems = []
        for action in reversed(self.undo):
            try:
                action()
            except Exception as error:
                problems.append(f"cleaning up failed: {type(error).__name__}: {error}")
        problems += self.left()
        assert not problems, "; ".join(problems)

    def left(self) -> list[str]:
        """Return the things of this world that are still on the backend, as far as it shows."""
        found = [f"volume {volume.id} is left on the backend" for volume in self.volumes if self.provider.volume_size(volume) is not None]
        if Capability.LIST in self.provider.capabilities():
            ids = {volume.id for volume in self.volumes} | {snapshot.id for snapshot in self.snapshots}
            for listed in [*self.provider.list_volumes(), *self.provider.list_snapshots()]:
                text = reference_text(listed.reference)
                found += [f"{text} is left on the backend" for each in ids if listed.id == each or each in text]
        else:
            # A deletion may report the backend's own state, which the provider's metadata do not
            # show.
            found += [f"volume {volume.id} is left on the backend" for volume in self.volumes if self.provider.delete_volume(volume)]
            found += [f"snapshot {each.id} is left on the backend" for each in self.snapshots if self.provider.delete_snapshot(each)]
        return found


class Open:
    """A volume that is connected to a host inside the block."""

    def __init__(self, world: World, volume: ProviderVolume) -> None:
        self.world = world
        self.volume = volume

    def __enter__(self) -> dict[str, Any]:
        self.id, info = self.world.connect(self.volume, "host1")
        return info

    def __exit__(self, *_: object) -> None:
        self.world.disconnect(self.volume, self.id, "host1")


def connector(host: str) -> dict[str, Any]:
    """Return os-brick's description of a host, with every kind of initiator."""
    number = sum(host.encode()) % 100
    return {
        "platform": "x86_64",
        "os_type": "linux",
        "ip": f"192.0.2.{number}",
        "host": host,
        "multipath": False,
        "enforce_multipath": True,
        "initiator": f"iqn.2005-03.org.open-iscsi:{host}",
        "do_local_attach": False,
        "wwpns": [f"50014380242b9{number:03d}"],
        "wwnns": [f"50014380242c9{number:03d}"],
        "nqn": f"nqn.2014-08.org.nvmexpress:uuid:{host}",
        "system uuid": str(uuid.uuid5(uuid.NAMESPACE_DNS, host)),
    }
