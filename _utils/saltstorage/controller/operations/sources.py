"""The sources of copies: volumes and snapshots of the same owner, from which new volumes are
made.
"""

from __future__ import annotations

from dataclasses import dataclass

from ... import model
from ...errors import AbortedError, FailedPreconditionError, NotFoundError
from ...model import Snapshot, Volume
from ...providers.base import Capability, ProviderSnapshot, ProviderVolume
from ...rules import refuse_smaller
from ...spec import VolumeSpec
from .core import Core, as_provider_snapshot, as_provider_volume


@dataclass(frozen=True, kw_only=True)
class Source:
    """A source that can be copied.

    :ivar found: the volume or snapshot.
    :ivar volume: the volume itself, or the volume that the snapshot was taken of.
    """

    found: Volume | Snapshot
    volume: Volume | None

    @property
    def kind(self) -> str:
        """The kind as a specification has it."""
        return "volume" if isinstance(self.found, Volume) else "snapshot"

    @property
    def record(self) -> dict[str, str]:
        """The source as the copy's record has it."""
        return {"kind": self.kind, "id": self.found.id, "name": self.found.name}

    @property
    def type(self) -> str | None:
        """Name of the type, which a copy has too: it needs the same service from the array."""
        return self.volume.type if self.volume is not None else None

    @property
    def formatted(self) -> bool:
        """Whether the copy may have a file system.

        A snapshot does not record it. Its volume may have been formatted since, so the volume as
        it is now decides: at worst, the copy of an older, empty snapshot is never formatted. When
        the catalog no longer has the volume, the snapshot may hold data.
        """
        return self.volume is None or self.volume.formatted

    @property
    def capability(self) -> tuple[Capability, str]:
        """The capability that a backend needs for the copy, and words for it."""
        if isinstance(self.found, Volume):
            return Capability.CLONE, "make a volume from another one"
        return Capability.SNAPSHOT, "make volumes from snapshots"

    def as_provider_source(self) -> ProviderVolume | ProviderSnapshot:
        """Return the source as providers take it."""
        return as_provider_volume(self.found) if isinstance(self.found, Volume) else as_provider_snapshot(self.found)

    def refuse_other_backend(self, backend: str) -> None:
        """Refuse a copy on another backend.

        :raises FailedPreconditionError: the source is not on ``backend``.
        """
        if self.found.backend != backend:
            raise FailedPreconditionError(
                f"the source {self.kind} {self.found.name!r} is on backend {self.found.backend!r}, not on {backend!r}", field="source"
            )


class Sources:
    """Looks up sources in the catalog."""

    def __init__(self, core: Core) -> None:
        self.core = core

    def find(self, owner: str, spec: VolumeSpec) -> Volume | Snapshot | None:
        """Return the volume or snapshot that a specification names; None when it does not exist, or
        the volume is to be empty.
        """
        if spec.source is None:
            return None
        name = spec.source["name"]
        return self.core.catalog.volume(owner, name) if spec.source["kind"] == "volume" else self.core.catalog.snapshot(owner, name)

    def get(self, owner: str, spec: VolumeSpec) -> Source | None:
        """Return the source to copy; None when the volume is to be empty.

        :raises NotFoundError: it does not exist.
        :raises FailedPreconditionError: it is not available.
        :raises OutOfRangeError: the new volume would be smaller.
        """
        if spec.source is None:
            return None
        kind, name = spec.source["kind"], spec.source["name"]
        found = self.find(owner, spec)
        if found is None:
            raise NotFoundError(f"the source {kind} {name!r} of {owner} does not exist", field="source")
        if found.state != model.AVAILABLE:
            raise FailedPreconditionError(f"the source {kind} {name!r} is {found.state}", field="source")
        refuse_smaller(spec, found)
        return Source(found=found, volume=found if isinstance(found, Volume) else self.core.catalog.volume_by_id(found.volume_id))

    def locks(self, owner: str, spec: VolumeSpec) -> list[tuple[str, str]]:
        """Return the identity of the volume that a copy is made of: its lock is held too, so that
        it is not deleted meanwhile.
        """
        if spec.source is None:
            return []
        if spec.source["kind"] == "volume":
            return [(owner, spec.source["name"])]
        snapshot = self.core.catalog.snapshot(owner, spec.source["name"])
        return [(owner, snapshot.volume)] if snapshot else []

    def check_locks(self, owner: str, spec: VolumeSpec, held: list[tuple[str, str]]) -> None:
        """Refuse to go on when the lock no longer belongs to the source's volume.

        :param held: the answer of :meth:`locks` before the lock was taken.
        :raises AbortedError: the volume was renamed, or the snapshot is another volume's by now.
        """
        now = self.locks(owner, spec)
        if now and now != held:
            raise AbortedError("the volume of the snapshot that is the source was renamed meanwhile; try again")
