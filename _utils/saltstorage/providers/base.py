"""The contract between the controller and the code that drives a kind of backend.

A provider knows no names, owners or rules: the service has checked, locked and recorded everything before it calls
a provider, and calls it with the ids that the service chose.  So a provider only does the array's work, and
does it so that **every call can be repeated**: after a crash the service repeats the last one.
"""

from __future__ import annotations

import abc
import enum
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..errors import UnimplementedError
from ..model import BackendStats
from . import initiators


class Capability(enum.StrEnum):
    """What a backend may be able to do beyond create, delete, connect and disconnect."""

    EXTEND = "extend"  #: Grow a volume that no host uses.
    EXTEND_ONLINE = "extend_online"  #: Grow a volume while hosts use it.
    SNAPSHOT = "snapshot"  #: Snapshots, and volumes from them.
    REVERT = "revert"  #: Set a volume that no host uses back to its latest snapshot.
    CLONE = "clone"  #: Volumes from volumes.
    SPECS = "specs"  #: Extra specs and QoS specs, which choose properties of a volume when it is created.
    MULTIATTACH = "multiattach"  #: One volume mapped to several hosts.
    LIST = "list"  #: List what is on the backend, whoever made it.
    MANAGE = "manage"  #: Take over a volume that is on the backend.


@dataclass(frozen=True, kw_only=True)
class ProviderVolume:
    """What a provider needs to know of a volume. ``size`` is in GiB."""

    id: str
    size: int
    name: str = ""  #: For display on the array, where the driver does so; never an identity.
    extra_specs: Mapping[str, str] = field(default_factory=dict)  #: Of its type, as Cinder has them; for the creation alone.
    qos_specs: Mapping[str, str] = field(default_factory=dict)  #: As above.


@dataclass(frozen=True, kw_only=True)
class ProviderSnapshot:
    """What a provider needs to know of a snapshot. ``size`` is the volume's when it was taken, in GiB."""

    id: str
    volume_id: str
    size: int
    name: str = ""


@dataclass(frozen=True, kw_only=True)
class Found:
    """A volume or snapshot that the backend has, whoever made it."""

    reference: Mapping[str, Any]  #: What :meth:`Provider.manage_volume` takes to name it, such as ``{"source-name": "lv1"}``.
    size: int  #: Size, GiB, rounded up.
    id: str = ""  #: The UUID by which the provider's metadata knows it, or else the one in a name such as ``volume-<UUID>``; or empty.
    known: bool = False  #: Whether the provider's metadata knows it.
    obstacle: str = ""  #: Why it cannot be taken over; empty when it can.
    source: Mapping[str, Any] | None = None  #: Of a snapshot: the reference of the volume that it was taken of.


def reference_text(reference: Mapping[str, Any]) -> str:
    """Return a reference as text, the same for equal ones: JSON with sorted keys."""
    return json.dumps(dict(reference), sort_keys=True, ensure_ascii=False)


@dataclass(frozen=True, kw_only=True)
class BackendConfig:
    """One entry of ``storage:backends`` after checking.

    :ivar name: the backend's name.
    :ivar options: everything under the name but ``provider``; for the cinderlib provider these are Cinder's
        own options of the driver (``volume_driver``, ``san_ip``, …), with ``sdb://`` values resolved.
    :ivar state_dir: a directory for the provider's own state, private to the controller.
    :ivar database: SQLAlchemy URL for the metadata of providers that keep any.
    :ivar root_helper: command prefix by which a controller that is not root runs commands as root, e.g. ``sudo``.
    """

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    state_dir: str
    database: str
    root_helper: str = ""


class Provider(abc.ABC):
    """One configured backend.

    The service constructs the provider, calls :meth:`load` once, and then any method from several threads at once, but
    never two at once for the same volume (volume, its snapshots, and the source of a new volume are locked together).

    Failures are raised as classes of :mod:`saltstorage.errors`; any other exception is reported as INTERNAL.
    No secret may stand in the message of an exception.
    """

    def __init__(self, config: BackendConfig) -> None:
        self.config = config

    @abc.abstractmethod
    def load(self) -> None:
        """Load the driver and reach the array. Called before anything else; may be called again after it failed.

        :raises InvalidArgumentError: an option is unknown or wrong.
        :raises FailedPreconditionError: something on the controller is missing (a package, a tool, a right).
        :raises UnavailableError: the array does not answer.
        """

    @abc.abstractmethod
    def capabilities(self) -> frozenset[Capability]:
        """Return what this backend can do."""

    @abc.abstractmethod
    def stats(self) -> BackendStats:
        """Return fresh statistics from the array."""

    @abc.abstractmethod
    def create_volume(self, volume: ProviderVolume, *, source: ProviderVolume | ProviderSnapshot | None = None) -> int:
        """Create a volume, empty or as a copy of ``source``, and return the size delivered in GiB.

        The service has checked that ``volume.size`` is not below the source's. A volume of this id that an
        interrupted call left is removed by :meth:`delete_volume` before this is called again.

        Specs come as they are configured, only here and only with the capability SPECS; every other call names the volume without
        them. What they may be is between the configuration and the backend: one that it does not know, it may ignore or refuse.

        :raises InvalidArgumentError: it refuses the specs; nothing may be left behind. Any other error may say so as well.
        :raises ResourceExhaustedError: no space or no more volumes possible; nothing may be left behind.
        :raises NotFoundError: there is no such source; nothing may be left behind.
        :raises AlreadyExistsError: there is a volume of this id, which stays as it is.
        """

    @abc.abstractmethod
    def delete_volume(self, volume: ProviderVolume) -> bool:
        """Delete a volume; return whether the backend still had it, as far as it says. Must accept what an interrupted create left.

        :raises FailedPreconditionError: it is connected or has snapshots that need it; it stays as it is.
        """

    @abc.abstractmethod
    def volume_size(self, volume: ProviderVolume) -> int | None:
        """Return the size in GiB that the backend has for the volume, or None when there is no such volume.

        Used to find out how far an interrupted operation came. A provider that cannot tell without changing anything
        answers from its own metadata.
        """

    @abc.abstractmethod
    def extend_volume(self, volume: ProviderVolume, size: int) -> int:
        """Grow a volume to ``size`` GiB and return the size delivered. Already that size or larger: do nothing.

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
        """Set a volume that no host uses back to its latest snapshot, and keep both; with ``REVERT`` among the capabilities.

        It has the snapshot's size still. Called again after it was interrupted.

        :raises FailedPreconditionError: the backend refused and did nothing.
        """
        raise UnimplementedError(f"backend {self.config.name!r} cannot set volumes back to a snapshot")

    @abc.abstractmethod
    def connect(
        self, volume: ProviderVolume, connection_id: str, connector: Mapping[str, Any], *, read_only: bool = False
    ) -> dict[str, Any]:
        """Map a volume to the host that ``connector`` describes and return how to reach it.

        ``connector`` is what os-brick's ``get_connector_properties`` returned on the host. The answer is
        Cinder's connection information: ``{"driver_volume_type": "iscsi", "data": {…}}``; the consumer hands it to
        os-brick as it is; ``data`` has ``access_mode``, ``rw`` or ``ro``. Mapping a host again returns the same, with no second
        mapping.

        :raises NotFoundError: there is no such volume, or the host has no initiator that fits.
        """

    def joined(
        self, volume: ProviderVolume, connection_id: str, before: Mapping[str, Any], connector: Mapping[str, Any]
    ) -> Mapping[str, Any] | None:
        """Return the connector for a repeated :meth:`connect` of a host that tells of itself other than ``before``, and do nothing.

        It has every initiator of both. None when the backend cannot take it for the same host: :meth:`disconnect` comes first.

        :raises NotFoundError: the host has no initiator that fits.
        """
        return initiators.joined(before, connector, initiators.EVERYTHING)

    @abc.abstractmethod
    def disconnect(self, volume: ProviderVolume, connection_id: str, connector: Mapping[str, Any], *, last: bool) -> None:
        """Unmap a volume from a host. ``last``: no other host is mapped, so the export may go.

        Unmapping a host that is not mapped does nothing.
        """

    @abc.abstractmethod
    def restore(self, volume: ProviderVolume) -> None:
        """Make the export of a connected volume exist again, as after a restart of the controller's machine."""

    def exports_intact(self) -> bool | None:
        """Return whether all exports of connected volumes are still there; None, the default, when the backend looks after them itself.

        Asked again and again while the backend is up; when the answer is False, :meth:`restore` is called for each. One that
        :meth:`restore` failed for is restored again in any case, so it need not count as lost.
        """
        return None

    # What only some backends can do; see the capabilities LIST and MANAGE.

    def list_volumes(self) -> list[Found]:
        """Return every volume that the backend has, also those of others.

        :raises UnimplementedError: the backend lacks the capability LIST.
        """
        raise UnimplementedError(f"backend {self.config.name!r} cannot list what it holds")

    def list_snapshots(self) -> list[Found]:
        """Return every snapshot that the backend has, also those of others; none where it can list volumes only."""
        return []

    def manage_volume(self, volume: ProviderVolume, reference: Mapping[str, Any]) -> int:
        """Take over the volume that ``reference`` means, as ``volume.id``, with its data, and return its size in GiB.

        Repeated after an interruption at any point, it finishes what was begun. ``volume.size`` is not looked at.

        :raises AlreadyExistsError: the provider's metadata knows that volume already.
        :raises InvalidArgumentError: there is no such volume, or the reference has a wrong form.
        :raises UnimplementedError: the backend lacks the capability MANAGE.
        """
        raise UnimplementedError(f"backend {self.config.name!r} cannot take over volumes that exist")

    def unmanage_volume(self, volume: ProviderVolume) -> str:
        """Forget a volume and its snapshots; their data stays. Return the volume's name on the backend, empty when it is not known.

        :raises UnimplementedError: the backend lacks the capability MANAGE.
        """
        raise UnimplementedError(f"backend {self.config.name!r} cannot let go of volumes without deleting them")

    def close(self) -> None:
        """Let go of what :meth:`load` took (sessions, threads). The default does nothing."""
