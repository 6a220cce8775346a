"""The contract between the controller and the code that drives a kind of backend.

A provider knows no names, owners or rules. Before the service calls a provider, it has checked,
locked and recorded everything, and it passes ids that it chose itself. So a provider only does the
array's work, and does it so that **every call can be repeated**: after a crash the service repeats
the last call.
"""

from __future__ import annotations

import abc
import enum
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..errors import UnimplementedError
from ..model import BackendStats, Pool
from .initiators import ALL_INITIATORS, bound_keys, merge_connectors


class Capability(enum.StrEnum):
    """The abilities that a backend may have beyond create, delete, connect and disconnect."""

    EXTEND = "extend"  #: Grow a volume that no host uses.
    EXTEND_ONLINE = "extend_online"  #: Grow a volume while hosts use it.
    SNAPSHOT = "snapshot"  #: Snapshots, and volumes from them.
    REVERT = "revert"  #: Set a volume that no host uses back to its latest snapshot.
    CLONE = "clone"  #: Volumes from volumes.
    #: Extra specs and QoS specs, which choose properties of a volume when it is created.
    SPECS = "specs"
    MULTIATTACH = "multiattach"  #: One volume mapped to several hosts.
    LIST = "list"  #: List all volumes of the backend, those of others included.
    MANAGE = "manage"  #: Take over a volume that is on the backend.


@dataclass(frozen=True, kw_only=True)
class ProviderVolume:
    """A volume as a provider sees it. ``size`` is in GiB."""

    id: str
    size: int
    name: str = ""  #: For display on the array, where the driver does so; never an identity.
    #: Extra specs of the volume's type, in Cinder's form; only :meth:`Provider.create_volume` gets
    #: them.
    extra_specs: Mapping[str, str] = field(default_factory=dict)
    #: Pool for a volume that is to be created, as :meth:`Provider.pools` names it; empty: any.
    pool: str = ""
    #: QoS specs of the volume's type, likewise.
    qos_specs: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class ProviderSnapshot:
    """A snapshot as a provider sees it. ``size`` is the volume's when it was taken, in GiB."""

    id: str
    volume_id: str
    size: int
    name: str = ""


@dataclass(frozen=True, kw_only=True)
class Found:
    """A volume or snapshot that is on the backend; others may have made it."""

    #: The argument by which :meth:`Provider.manage_volume` finds it, such as ``{"source-name":
    #: "lv1"}``.
    reference: Mapping[str, Any]
    size: int  #: Size, GiB, rounded up.
    #: The UUID in the provider's metadata, or else the UUID in a name such as ``volume-<UUID>``;
    #: or empty.
    id: str = ""
    known: bool = False  #: Whether the provider's metadata knows it.
    obstacle: str = ""  #: The reason why it cannot be taken over; empty when it can.
    #: For a snapshot: the reference of the volume that it was taken of.
    source: Mapping[str, Any] | None = None


def reference_text(reference: Mapping[str, Any]) -> str:
    """Return a reference as text, the same for equal ones: JSON with sorted keys.

    >>> reference_text({"source-name": "lv1", "source-id": 7})
    '{"source-id": 7, "source-name": "lv1"}'
    """
    return json.dumps(dict(reference), sort_keys=True, ensure_ascii=False)


@dataclass(frozen=True, kw_only=True)
class BackendConfig:
    """One entry of ``storage:backends`` after checking.

    :ivar name: the backend's name.
    :ivar options: everything under the name but ``provider``; for the cinderlib provider these are
        Cinder's own options of the driver (``volume_driver``, ``san_ip``, …). ``sdb://`` values
        are resolved.
    :ivar state_dir: a directory for the provider's own state, private to the controller.
    :ivar database: SQLAlchemy URL for the metadata of providers that keep any.
    :ivar zoning: ``storage:zoning``, for providers of Fibre Channel arrays; default none.
    """

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    state_dir: str
    database: str
    zoning: Mapping[str, Any] = field(default_factory=dict)


class Provider(abc.ABC):
    """One configured backend.

    The service constructs the provider, calls :meth:`load` once, and then any method from several
    threads at once, but never two at once for the same volume: a volume, its snapshots and the
    source of a new volume are locked together.

    Failures are raised as classes of :mod:`saltstorage.errors`, which can be imported from
    :mod:`saltstorage.providers` too; any other exception is reported as INTERNAL. No secret may
    stand in the message of an exception.
    """

    def __init__(self, config: BackendConfig) -> None:
        self.config = config

    def check(self) -> None:
        """Check the options, as far as that is possible without reaching the array. Before
        :meth:`load`, which does it too. The default checks nothing.

        :raises InvalidArgumentError: an option is unknown, wrong or missing.
        :raises FailedPreconditionError: the controller lacks a package, a tool or a right.
        """

    @abc.abstractmethod
    def load(self) -> None:
        """Load the driver and reach the array. Called before anything else; called again after it
        failed.

        :raises InvalidArgumentError: an option is unknown or wrong.
        :raises FailedPreconditionError: the controller lacks a package, a tool or a right.
        :raises UnavailableError: the array does not answer.
        """

    @abc.abstractmethod
    def capabilities(self) -> frozenset[Capability]:
        """Return the abilities of this backend."""

    @abc.abstractmethod
    def stats(self) -> BackendStats:
        """Return fresh statistics from the array::

            BackendStats(
                name="acme1", vendor="Acme", driver_version="2.1.0", protocol="iSCSI",
                total_gib=10240.0, free_gib=7301.5, allocated_gib=2900.0, thin=True,
                raw={"pools": 2, "firmware": "9.4"},
            )

        Only ``name`` and ``protocol`` are required. ``allocated_gib`` is the sum of the sizes of
        the project's own volumes; ``raw`` is any further plain data, without secrets.
        """

    def pools(self) -> Sequence[Pool]:
        """Return fresh statistics of each pool; the service chooses one for a new volume. The
        default: the backend as one pool without a name, all of whose free space can be used.
        """
        found = self.stats()
        return [Pool(name="", total_gib=found.total_gib, free_gib=found.free_gib)]

    def pool_of(self, volume: ProviderVolume) -> str:
        """Return the name of the pool that has a volume; empty when it is not known."""
        return ""

    @abc.abstractmethod
    def create_volume(self, volume: ProviderVolume, *, source: ProviderVolume | ProviderSnapshot | None = None) -> int:
        """Create a volume, empty or as a copy of ``source``, and return the size delivered in GiB.

        The service has checked that ``volume.size`` is not below the source's. After an
        interrupted call, the service removes the volume of this id with :meth:`delete_volume`
        before it calls this again.

        Specs come as they are configured, only here and only with the capability SPECS; every
        other call names the volume without them. The service does not check them: a backend may
        ignore or refuse specs that it does not know.

        :raises InvalidArgumentError: it refuses the specs; nothing may be left behind. Any other
            error may say so as well.
        :raises ResourceExhaustedError: no space, or no more volumes possible; nothing may be left
            behind.
        :raises NotFoundError: there is no such source; nothing may be left behind.
        :raises AlreadyExistsError: there is a volume of this id, which stays as it is.
        """

    @abc.abstractmethod
    def delete_volume(self, volume: ProviderVolume) -> bool:
        """Delete a volume; return whether the backend still had it, as far as it says.

        This must also remove the remains of an interrupted create.

        :raises FailedPreconditionError: it is connected or has snapshots that need it; it stays as
            it is.
        """

    @abc.abstractmethod
    def volume_size(self, volume: ProviderVolume) -> int | None:
        """Return the size in GiB that the backend has for the volume, or None when there is no
        such volume.

        The service asks to find out how far an interrupted operation came. A provider that cannot
        tell without changing anything answers from its own metadata.
        """

    @abc.abstractmethod
    def extend_volume(self, volume: ProviderVolume, size: int) -> int:
        """Grow a volume to ``size`` GiB and return the size delivered.

        A volume that has that size already, or more, stays as it is.

        :raises NotFoundError: there is no such volume.
        """

    @abc.abstractmethod
    def create_snapshot(self, snapshot: ProviderSnapshot) -> None:
        """Take a snapshot of ``snapshot.volume_id``.

        :raises AlreadyExistsError: there is a snapshot of this id, which stays as it is.
        """

    @abc.abstractmethod
    def delete_snapshot(self, snapshot: ProviderSnapshot) -> bool:
        """Delete a snapshot; return whether there was one."""

    def revert_volume(self, volume: ProviderVolume, snapshot: ProviderSnapshot) -> None:
        """Set a volume that no host uses back to its latest snapshot, and keep both.

        Only called with the capability REVERT, and again after an interruption. The volume still
        has the snapshot's size.

        :raises FailedPreconditionError: the backend refused and did nothing.
        """
        raise UnimplementedError(f"backend {self.config.name!r} cannot set volumes back to a snapshot")

    @abc.abstractmethod
    def connect(
        self, volume: ProviderVolume, connection_id: str, connector: Mapping[str, Any], *, read_only: bool = False
    ) -> dict[str, Any]:
        """Map a volume to the host that ``connector`` describes, and return the way to reach it.

        ``connector`` is the answer of os-brick's ``get_connector_properties`` on the host, such
        as::

            {
                "host": "db1-3f9c2a71", "ip": "192.0.2.7", "multipath": True,
                "os_type": "linux", "platform": "x86_64",
                "initiator": "iqn.2004-10.com.example:db1",              # with open-iscsi
                "wwpns": ["50014380186af83c"], "wwnns": ["50014380186af83d"],   # with Fibre Channel
                "nqn": "nqn.2014-08.org.nvmexpress:uuid:4c4c4544-…",     # with nvme-cli
                "nvme_hostid": "4c4c4544-…", "uuid": "4c4c4544-…",
            }

        The keys of initiators that the host does not have are missing. ``host`` is short, has no
        dot, and is unique for each minion.

        The answer is Cinder's connection information, plain data that the consumer passes to
        os-brick as it is. ``data`` has ``access_mode``, ``rw`` or ``ro``, with each protocol.
        iSCSI, with the keys in the plural for several portals::

            {"driver_volume_type": "iscsi", "data": {
                "target_portal": "192.0.2.10:3260", "target_lun": 1,
                "target_iqn": "iqn.2010-10.org.example:volume-1",
                "target_portals": ["192.0.2.10:3260", "192.0.2.11:3260"],
                "target_iqns": ["iqn.2010-10.org.example:volume-1"] * 2, "target_luns": [1, 1],
                "auth_method": "CHAP", "auth_username": "…", "auth_password": "…",
                "target_discovered": False, "access_mode": "rw",
            }}

        Fibre Channel::

            {"driver_volume_type": "fibre_channel", "data": {
                "target_wwn": ["50014380186af83e", "50014380186af83f"], "target_lun": 1,
                "target_discovered": True, "access_mode": "rw",
            }}

        NVMe over Fabrics, each portal with its address, port and transport::

            {"driver_volume_type": "nvmeof", "data": {
                "target_nqn": "nqn.2014-08.org.example:volume-1",
                "vol_uuid": "8d3c7b0e-…", "ns_id": 1,
                "portals": [["192.0.2.10", 4420, "tcp"]], "access_mode": "rw",
            }}

        Ceph RBD, NFS, and a file or device of the controller's own machine::

            {"driver_volume_type": "rbd", "data": {
                "name": "volumes/volume-1", "hosts": ["192.0.2.1"], "ports": ["6789"],
                "cluster_name": "ceph", "auth_enabled": True, "auth_username": "cinder",
                "keyring": "[client.cinder]…", "access_mode": "rw",
            }}
            {"driver_volume_type": "nfs", "data": {
                "export": "192.0.2.1:/srv/nfs", "name": "volume-1", "format": "raw",
                "access_mode": "rw",
            }}
            {"driver_volume_type": "local", "data": {
                "device_path": "/srv/volumes/volume-1", "access_mode": "rw",
            }}

        Mapping a host again returns the same, and makes no second mapping.

        :raises NotFoundError: there is no such volume, or the host has no initiator that fits.
        """

    def initiators(self) -> Sequence[str]:
        """Return the keys of a connector by which this backend lets a host in: each initiator of
        these kinds belongs to the first minion that uses it. The default: all of them.

        An address is not among them, since the next host may get it.
        """
        return bound_keys("")

    def check_connector(self, connector: Mapping[str, Any]) -> None:
        """Refuse a host that no volume of this backend can be mapped to, before one is created for
        it. The default refuses none.

        :raises NotFoundError: the host has no initiator that fits.
        """

    def merge_connectors(
        self, volume: ProviderVolume, connection_id: str, before: Mapping[str, Any], connector: Mapping[str, Any]
    ) -> Mapping[str, Any] | None:
        """Return the connector for a repeated :meth:`connect` of a host whose connector is no
        longer ``before``.

        Nothing changes on the backend. The answer has every initiator of both. None: the backend
        cannot take it for the same host, and :meth:`disconnect` comes first.

        :raises NotFoundError: the host has no initiator that fits.
        """
        return merge_connectors(before, connector, ALL_INITIATORS)

    @abc.abstractmethod
    def disconnect(self, volume: ProviderVolume, connection_id: str, connector: Mapping[str, Any], *, last: bool) -> None:
        """Unmap a volume from a host. ``last``: no other host is mapped, so the export may go.

        Unmapping a host that is not mapped does nothing.
        """

    @abc.abstractmethod
    def restore(self, volume: ProviderVolume) -> None:
        """Make the export of a connected volume exist again, as after a restart of the
        controller's machine.
        """

    def take_state(self, former: str) -> None:
        """Take over the files that this provider kept for the backend under another name, which is
        no longer configured. Called again after an interruption. The default keeps none.
        """

    def take_metadata(self, volume: ProviderVolume, former: str) -> None:
        """Take over the metadata that this provider kept of a volume and its snapshots under
        another name of the backend. Called again after an interruption. The default keeps none.
        """

    def take_size(self, volume: ProviderVolume, size: int) -> None:
        """Note in this provider's metadata that the backend has a volume with ``size`` GiB, since
        it was grown there. The default keeps none.
        """

    def exports_intact(self) -> bool | None:
        """Return whether all exports of connected volumes are still there.

        None, the default: the backend looks after them itself. The service asks at short intervals
        while the backend is up; after False, it calls :meth:`restore` for each connected volume.
        It repeats a
        :meth:`restore` that failed in any case, so such an export need not count as lost.
        """
        return None

    # The rest is for the capabilities LIST and MANAGE.

    def list_volumes(self) -> list[Found]:
        """Return every volume of the backend, also those of others.

        :raises UnimplementedError: the backend lacks the capability LIST.
        """
        raise UnimplementedError(f"backend {self.config.name!r} cannot list its volumes")

    def list_snapshots(self) -> list[Found]:
        """Return every snapshot of the backend, also those of others; none where it can list
        volumes only.
        """
        return []

    def manage_volume(self, volume: ProviderVolume, reference: Mapping[str, Any]) -> int:
        """Take over the volume that ``reference`` names, as ``volume.id``, with its data; return
        its size in GiB.

        Repeated after an interruption at any point, it finishes the earlier call. ``volume.size``
        does not count.

        :raises AlreadyExistsError: the provider's metadata knows that volume already.
        :raises InvalidArgumentError: there is no such volume, or the reference has a wrong form.
        :raises UnimplementedError: the backend lacks the capability MANAGE.
        """
        raise UnimplementedError(f"backend {self.config.name!r} cannot take over volumes that exist")

    def unmanage_volume(self, volume: ProviderVolume) -> str:
        """Forget a volume and its snapshots; their data stays.

        Return the volume's name on the backend, empty when it is not known.

        :raises UnimplementedError: the backend lacks the capability MANAGE.
        """
        raise UnimplementedError(f"backend {self.config.name!r} cannot let go of volumes without deleting them")

    def close(self) -> None:
        """Let go of the sessions and threads that :meth:`load` took. The default does nothing."""
