"""The nouns of the project as they cross the bus and leave the runner: frozen, typed, plain data inside.

Sizes are in GiB unless the name says otherwise; times are seconds since the epoch, UTC, as a float.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

from .spec import Attributes

# What a volume or snapshot is doing, in the words that Cinder uses.
CREATING = "creating"
AVAILABLE = "available"
EXTENDING = "extending"
DELETING = "deleting"
REVERTING = "reverting"
ERROR = "error"
# What only the administrator's operations do.
ADOPTING = "adopting"
RELEASING = "releasing"
MIGRATING = "migrating"
VOLUME_STATES = (CREATING, AVAILABLE, EXTENDING, DELETING, REVERTING, ADOPTING, RELEASING, MIGRATING, ERROR)

# Where a volume comes from that was not created here: from a backend, or from the database of another cinderlib.
ARRAY = "array"
IMPORTED = "cinderlib"

# What a connection is doing.
CONNECTING = "connecting"
CONNECTED = "connected"
DISCONNECTING = "disconnecting"


# What a move to another backend is doing.
COPYING = "copying"
MOVED = "moved"
REMOVING = "removing"


@dataclass(frozen=True, kw_only=True)
class Record:
    """Base of the nouns: to and from plain data."""

    #: Fields that `to_wire` leaves out, since the other end must not see them.
    private: ClassVar[frozenset[str]] = frozenset()

    def to_wire(self) -> dict[str, Any]:
        """Return the public fields as a dictionary of plain data."""
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name not in self.private}

    @classmethod
    def from_wire(cls, data: Mapping[str, Any]) -> Self:
        """Return the noun for what :meth:`to_wire` returned; keys of a newer release are ignored."""
        known = {f.name for f in dataclasses.fields(cls)}
        return cls(**{key: value for key, value in data.items() if key in known})


@dataclass(frozen=True, kw_only=True)
class Volume(Attributes, Record):
    """A block volume, known by ``(owner, name)``, with its attributes; see :class:`.Attributes`."""

    id: str  #: UUID, chosen by the controller before the backend is asked; on the array usually ``volume-<id>``.
    owner: str  #: Minion that the volume belongs to, or ``shared``.
    name: str  #: Name that the owner gave; unique for the owner.
    backend: str  #: Name of the backend in the controller's configuration.
    size: int  #: Size that the backend delivers, GiB.
    state: str = AVAILABLE  #: creating, available, extending, reverting, deleting, adopting, releasing, migrating or error.
    source: Mapping[str, str] | None = None
    """``{"kind": "volume" | "snapshot", "id": UUID, "name": …}`` it was made from; kind ``array`` or ``cinderlib``: adopted."""
    type: str | None = None  #: Type in the controller's configuration that it was created with; None for none.
    formatted: bool = False  #: Whether a consumer was ever allowed to make a file system on it.
    encrypted: bool | None = False  #: Whether a consumer was ever allowed to encrypt it, or its source is encrypted; None: not known yet of
    #: one that was adopted, or its copy.
    created: float = 0.0  #: When it was created.
    error: str = ""  #: Why the state is ``error``.

    @property
    def adopted(self) -> bool:
        """Whether others made it, so that its size in GiB may be rounded up."""
        return (self.source or {}).get("kind") in (ARRAY, IMPORTED)


@dataclass(frozen=True, kw_only=True)
class Snapshot(Record):
    """A point-in-time copy of a volume, known by ``(owner, name)``."""

    id: str  #: UUID, chosen by the controller.
    owner: str  #: Owner of the volume.
    name: str  #: Name, unique for the owner.
    volume_id: str  #: UUID of the volume it was taken of.
    volume: str  #: Name of that volume.
    backend: str  #: Backend of that volume.
    size: int  #: Size of the volume when it was taken, GiB.
    encrypted: bool | None = False  #: Whether the volume was encrypted when it was taken; None as with the volume.
    state: str = AVAILABLE  #: creating, available, reverting (its volume is being set back to it), deleting or error.
    created: float = 0.0  #: When it was taken.
    error: str = ""  #: Why the state is ``error``.
    frozen: bool | None = False  #: Whether a host held the file system still meanwhile; None while that is asked for and not confirmed.
    series: str = ""  #: Name of the series that it was taken for and that may delete it; empty for a single one.


@dataclass(frozen=True, kw_only=True)
class Connection(Record):
    """A volume mapped to one host. How to reach it travels beside this record, never in it: that holds secrets."""

    id: str  #: UUID.
    volume_id: str  #: UUID of the volume.
    owner: str  #: Owner of the volume.
    volume: str  #: Name of the volume.
    host: str  #: Minion that the volume is mapped to.
    size: int  #: GiB that it has on the host: what it was mapped with, or what the host said after it had followed the volume.
    state: str = CONNECTED  #: connecting, connected or disconnecting.
    read_only: bool = False  #: Whether the host may only read.
    mounts: bool = False  #: Whether the host may mount a file system of it; recorded of shared volumes only.
    created: float = 0.0  #: When it was mapped.
    connector: Mapping[str, Any] = field(default_factory=dict)  #: What os-brick said of the host when it was mapped.

    private: ClassVar[frozenset[str]] = frozenset({"connector"})

    def behind(self, volume: Volume) -> bool:
        """Return whether the volume has grown, and the host has not said yet that it has followed."""
        return self.state == CONNECTED and self.size < volume.size

    def bars(self, *, read_only: bool, mounts: bool) -> bool:
        """Return whether another host must not connect the volume in this way while this connection is there.

        A file system that is no cluster file system knows of one host alone: where one mounts it, either no other host is connected, or
        all of them can only read.
        """
        return (self.mounts or mounts) and not (self.read_only and read_only)


@dataclass(frozen=True, kw_only=True)
class Fence(Record):
    """That a volume was taken from a host on the administrator's word, and that the host may still have a stale device of it.

    The host is given the volume again only after it has removed that: what it had not written yet must never reach the volume. So it
    outlives the volume's record, with which the data need not go, nor the number of its LUN, which the next volume may get.
    """

    id: str  #: UUID.
    volume_id: str  #: UUID that the volume has by now, or had when it left the catalog.
    attached_id: str  #: UUID that it had when it was taken, as the host recorded it: moved, or taken over again, it has another.
    owner: str  #: Owner that it had then.
    volume: str  #: Name that it had then, and has on the host.
    host: str  #: Minion that was cut off.
    created: float = 0.0  #: When.

    @property
    def ids(self) -> list[str]:
        """The UUIDs by which the host may know the volume."""
        return list(dict.fromkeys((self.attached_id, self.volume_id)))


@dataclass(frozen=True, kw_only=True)
class Move(Record):
    """A volume on its way to another backend. It accounts for the copy that the volume's own record does not name."""

    id: str  #: UUID.
    owner: str  #: Owner of the volume.
    name: str  #: Name of the volume.
    state: str = COPYING  #: copying (the record names the source), moved (it names the target), or removing (so is the old one).
    source_id: str  #: UUID of the volume on the backend that it comes from.
    source_backend: str  #: Backend that it comes from.
    target_id: str  #: UUID of the volume on the backend that it goes to.
    target_backend: str  #: Backend that it goes to.
    size: int  #: Size of the volume, GiB.
    host: str  #: Controller on which both are attached while they are copied.
    created: float = 0.0  #: When it was begun.
    error: str = ""  #: Why it could not be undone or finished.
    connector: Mapping[str, Any] = field(default_factory=dict)  #: What os-brick said of that controller.

    private: ClassVar[frozenset[str]] = frozenset({"connector"})


@dataclass(frozen=True, kw_only=True)
class BackendStats(Record):
    """What a backend says of itself."""

    name: str  #: Name of the backend.
    vendor: str = ""  #: Vendor, as the driver says.
    driver_version: str = ""  #: Version of the driver.
    protocol: str = ""  #: Storage protocol, such as ``iSCSI``, ``FC``, ``ceph``, ``file``.
    total_gib: float | None = None  #: Capacity; None when the backend does not say or has no limit.
    free_gib: float | None = None  #: Free capacity; None as above.
    allocated_gib: float | None = None  #: Sum of the sizes of the project's volumes on it.
    thin: bool = False  #: Whether volumes take only the space that was written.
    raw: Mapping[str, Any] = field(default_factory=dict)  #: All that the driver said, secrets removed.
