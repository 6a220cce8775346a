"""The nouns of the project as they cross the bus and leave the runner: frozen, typed, plain data
inside.

Sizes are in GiB unless the name says otherwise; times are seconds since the epoch, UTC, as a float.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

from .spec import Attributes

# States of volumes and snapshots, in the words of Cinder.
CREATING = "creating"
AVAILABLE = "available"
EXTENDING = "extending"
DELETING = "deleting"
REVERTING = "reverting"
ERROR = "error"
# States that only the administrator's operations give a volume.
ADOPTING = "adopting"
RELEASING = "releasing"
MIGRATING = "migrating"
VOLUME_STATES = (CREATING, AVAILABLE, EXTENDING, DELETING, REVERTING, ADOPTING, RELEASING, MIGRATING, ERROR)

# Sources of adopted volumes: a backend, or the database of another cinderlib.
ARRAY = "array"
IMPORTED = "cinderlib"

# States of connections.
CONNECTING = "connecting"
CONNECTED = "connected"
DISCONNECTING = "disconnecting"


# States of moves to another backend.
COPYING = "copying"
MOVED = "moved"
REMOVING = "removing"


@dataclass(frozen=True, kw_only=True)
class Record:
    """Base of the nouns: to and from plain data."""

    #: Fields that `to_wire` leaves out: the other end must not see them.
    private: ClassVar[frozenset[str]] = frozenset()

    def to_wire(self) -> dict[str, Any]:
        """Return the public fields as a dictionary of plain data."""
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name not in self.private}

    @classmethod
    def from_wire(cls, data: Mapping[str, Any]) -> Self:
        """Return the noun from :meth:`to_wire`; keys of a newer release are ignored."""
        known = {f.name for f in dataclasses.fields(cls)}
        return cls(**{key: value for key, value in data.items() if key in known})


@dataclass(frozen=True, kw_only=True)
class Volume(Attributes, Record):
    """A block volume, known by ``(owner, name)``, with its attributes; see :class:`.Attributes`."""

    #: UUID, chosen by the controller before the backend is asked; on the array usually
    #: ``volume-<id>``.
    id: str
    owner: str  #: Minion that the volume belongs to, or ``shared``.
    name: str  #: Name that the owner gave; unique for the owner.
    backend: str  #: Name of the backend in the controller's configuration.
    size: int  #: Size that the backend delivers, GiB.
    #: Size that was asked for, GiB, where the backend delivered more; None where both are the same.
    requested: int | None = None
    #: creating, available, extending, reverting, deleting, adopting, releasing, migrating or
    #: error.
    state: str = AVAILABLE
    source: Mapping[str, str] | None = None
    """``{"kind": "volume" | "snapshot", "id": UUID, "name": …}``; an adopted volume has the kind
    ``array`` or ``cinderlib``.
    """
    #: Type in the controller's configuration that it was created with; None for none.
    type: str | None = None
    formatted: bool = False  #: Whether a consumer was ever allowed to make a file system on it.
    #: Whether a consumer was ever allowed to encrypt it, or its source is encrypted. None: not
    #: known yet, after an adoption or a copy of an adopted volume.
    encrypted: bool | None = False
    created: float = 0.0  #: Time of its creation.
    error: str = ""  #: Reason for the state ``error``.

    @property
    def adopted(self) -> bool:
        """Whether the volume was made by others, so that its size in GiB may be rounded up."""
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
    size: int  #: Size of the volume at that moment, GiB.
    #: Whether the volume was encrypted then; None as with the volume.
    encrypted: bool | None = False
    #: creating, available, reverting (the volume is being set back to it), deleting or error.
    state: str = AVAILABLE
    created: float = 0.0  #: Time when it was taken.
    error: str = ""  #: Reason for the state ``error``.
    #: Whether a host held the file system still meanwhile; None: asked for and not confirmed.
    frozen: bool | None = False
    #: Name of the series that it belongs to, which may delete it; empty for a single one.
    series: str = ""


@dataclass(frozen=True, kw_only=True)
class Connection(Record):
    """A volume mapped to one host. The way to reach it holds secrets, so it travels beside this
    record, never in it.
    """

    id: str  #: UUID.
    volume_id: str  #: UUID of the volume.
    owner: str  #: Owner of the volume.
    volume: str  #: Name of the volume.
    host: str  #: Minion that the volume is mapped to.
    #: GiB that the volume has on the host: its size when it was mapped, or the size that the host
    #: reported since.
    size: int
    state: str = CONNECTED  #: connecting, connected or disconnecting.
    read_only: bool = False  #: Whether the host may only read.
    #: Whether the host may mount a file system of it; recorded for shared volumes only.
    mounts: bool = False
    created: float = 0.0  #: Time when it was mapped.
    #: The host's properties when it was mapped, as os-brick returned them.
    connector: Mapping[str, Any] = field(default_factory=dict)

    private: ClassVar[frozenset[str]] = frozenset({"connector"})

    def behind(self, volume: Volume) -> bool:
        """Return whether there is unreported growth: the volume grew, and the controller was not
        told that the host's device followed.
        """
        return self.state == CONNECTED and self.size < volume.size

    def bars(self, *, read_only: bool, mounts: bool) -> bool:
        """Return whether another host must not connect the volume in this way while this
        connection is there.

        An ordinary file system expects one host alone. Where a host mounts it, either no other
        host is connected, or all of them can only read.
        """
        return (self.mounts or mounts) and not (self.read_only and read_only)


@dataclass(frozen=True, kw_only=True)
class Fence(Record):
    """A host from which the controller took a volume, on the administrator's word that the host
    is dead. It may have a stale device.

    The host gets the volume again only after it has removed the stale device: data that it had
    not written yet must never reach the volume. A fence outlives the volume's record, since the
    data may stay without the record, and the next volume may get the same LUN.
    """

    id: str  #: UUID.
    volume_id: str  #: Present UUID of the volume, or its last in the catalog.
    #: UUID at the time of the fence, as the host recorded it. A move, or a new adoption, gives
    #: the volume another.
    attached_id: str
    owner: str  #: Owner at that time.
    volume: str  #: Name at that time, which it still has on the host.
    host: str  #: Minion from which the volume was taken.
    created: float = 0.0  #: Time of the fence.

    @property
    def ids(self) -> list[str]:
        """The UUIDs by which the host may know the volume."""
        return list(dict.fromkeys((self.attached_id, self.volume_id)))


@dataclass(frozen=True, kw_only=True)
class Move(Record):
    """A volume on its way to another backend. It accounts for the copy that the volume's own
    record does not name.
    """

    id: str  #: UUID.
    owner: str  #: Owner of the volume.
    name: str  #: Name of the volume.
    #: copying (the record names the source), moved (it names the target), or removing (the old
    #: volume is being deleted).
    state: str = COPYING
    source_id: str  #: UUID of the volume on the backend that it leaves.
    source_backend: str  #: Backend that it leaves.
    target_id: str  #: UUID of the volume on the backend that it goes to.
    target_backend: str  #: Backend that it goes to.
    size: int  #: Size of the volume, GiB.
    host: str  #: Controller on which both are attached while they are copied.
    created: float = 0.0  #: Time of its begin.
    error: str = ""  #: Reason why it could not be undone or finished.
    #: That controller's properties, as os-brick returned them.
    connector: Mapping[str, Any] = field(default_factory=dict)

    private: ClassVar[frozenset[str]] = frozenset({"connector"})


@dataclass(frozen=True, kw_only=True)
class Initiator(Record):
    """An initiator, by which an array knows a host, and the minion that it belongs to."""

    id: str  #: UUID.
    kind: str  #: Key of a connector: initiator, wwpns, wwnns, nqn, nvme_hostid or sdc_guid.
    value: str  #: The initiator in lower case, without separators.
    minion: str  #: Minion that it belongs to.
    created: float = 0.0  #: Time of its first use.


@dataclass(frozen=True, kw_only=True)
class Pool(Record):
    """A pool of a backend, as its driver last reported it."""

    name: str  #: The driver's name for it; empty where the backend has no pools.
    total_gib: float | None = None  #: Capacity; None when it is unknown or has no limit.
    free_gib: float | None = None  #: Free capacity; None as above.
    provisioned_gib: float = 0.0  #: Sum of the sizes of all volumes, others' included.
    reserved_percentage: float = 0.0  #: Part of the capacity that no volume gets.
    max_over_subscription_ratio: float = 1.0  #: Most GiB that are promised for each GiB there is.
    thin: bool = False  #: Whether volumes take only the space that was written.

    def room(self, pending: float = 0.0, *, thick: bool = False) -> float | None:
        """Return the GiB that volumes may still get; None when nobody can tell.

        As Cinder's scheduler counts, and for thin volumes not more than the free space can be
        over-subscribed.

        :param pending: GiB that were promised since the report.
        :param thick: whether the volume is to take all its space at once.

        >>> Pool(name="a", total_gib=100.0, free_gib=40.0, reserved_percentage=10).room(5)
        35.0
        >>> pool = Pool(name="b", total_gib=100.0, free_gib=40.0, provisioned_gib=150.0, thin=True,
        ...             max_over_subscription_ratio=2.0)
        >>> pool.room(), pool.room(thick=True)
        (50.0, -50.0)
        """
        if self.free_gib is None or (self.total_gib is None and not self.reserved_percentage):
            return None
        if self.total_gib is None:
            # The reserved part of it is not known either.
            return 0.0
        reserved = math.floor(self.total_gib * self.reserved_percentage / 100)
        usable = self.total_gib - reserved
        if not self.thin or thick:
            return round(min(self.free_gib, usable - self.provisioned_gib) - pending, 2)
        ratio = self.max_over_subscription_ratio
        return round(min(usable * ratio - self.provisioned_gib - pending, (self.free_gib - reserved) * ratio), 2)


@dataclass(frozen=True, kw_only=True)
class Reservation(Record):
    """Space of a pool that is promised to a creation or growth, which its statistics may not show
    yet.
    """

    id: str  #: UUID.
    volume_id: str  #: UUID of the volume.
    backend: str  #: Backend.
    pool: str  #: Name of the pool.
    gib: int  #: Promised GiB.
    created: float  #: Time at which it was promised.
    finished: float | None = None  #: Time at which the backend had done it; None: it runs.


@dataclass(frozen=True, kw_only=True)
class BackendStats(Record):
    """A backend's own statistics."""

    name: str  #: Name of the backend.
    vendor: str = ""  #: Vendor, from the driver.
    driver_version: str = ""  #: Version of the driver.
    protocol: str = ""  #: Storage protocol, such as ``iSCSI``, ``FC``, ``ceph``, ``file``.
    total_gib: float | None = None  #: Capacity; None when the backend does not say or has no limit.
    free_gib: float | None = None  #: Free capacity; None as above.
    allocated_gib: float | None = None  #: Sum of the sizes of the project's volumes on it.
    thin: bool = False  #: Whether volumes take only the space that was written.
    #: All that the driver said, secrets removed.
    raw: Mapping[str, Any] = field(default_factory=dict)
