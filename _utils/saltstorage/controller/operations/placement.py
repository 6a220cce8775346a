"""Chooses the backend and the pool of a new volume by their free space, and guards the space of
each pool.

Cinder's scheduler does this, and there is none here. A look at an array is a few seconds old, and
does not show what is being created meanwhile; so each creation and growth first reserves its space
in the catalog, under a lock of its backend, where all controllers see it.
"""

from __future__ import annotations

import contextlib
import fnmatch
import logging
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from ... import model
from ...errors import ResourceExhaustedError, StorageError
from ...model import Pool, Reservation, Volume
from ..access.config import TypeEntry
from .core import Core, as_provider_volume, new_id

log = logging.getLogger(__name__)

#: Age of a look at an array that is still good enough, seconds.
MAX_AGE = 10.0
#: How long a finished reservation is kept, seconds: longer than any look is used.
_KEPT = 600.0
_BUSY = (model.CREATING, model.EXTENDING, model.MIGRATING)


@dataclass(frozen=True, kw_only=True)
class Request:
    """Space that is asked for.

    :ivar gib: GiB.
    :ivar backends: names of the backends to choose from, the first ones preferred where nobody
        can tell the room.
    :ivar pools: globs of pools that are allowed, by the name of whatever allows them: all must.
    :ivar thick: whether the volume takes all its space at once.
    """

    gib: int
    backends: Sequence[str]
    pools: dict[str, Sequence[str]] = field(default_factory=dict)
    thick: bool = False


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A pool, and whether it fits.

    :ivar room: GiB that it can still give; None: nobody can tell.
    :ivar reason: why it cannot be chosen; empty when it can.
    """

    backend: str
    pool: Pool | None
    room: float | None
    reason: str

    def to_wire(self) -> dict[str, Any]:
        """Return plain data."""
        found = self.pool or Pool(name="")
        return {
            "backend": self.backend,
            "pool": found.name,
            "room_gib": self.room,
            "free_gib": found.free_gib,
            "total_gib": found.total_gib,
            "reserved_percentage": found.reserved_percentage,
            "max_over_subscription_ratio": found.max_over_subscription_ratio if found.thin else None,
            "reason": self.reason,
        }


class Placement:
    """The choice of pools of one controller."""

    def __init__(self, core: Core) -> None:
        self.core = core
        self._looks: dict[str, tuple[float, list[Pool]]] = {}
        self._lock = threading.Lock()

    def candidates(self, request: Request, *, only: str | None = None) -> list[Candidate]:
        """Return the pools of all backends of a request, the best first.

        :param only: a pool that the volume cannot leave.
        :raises StorageError: a backend cannot be asked, and there is no other.
        """
        found: list[Candidate] = []
        for name in request.backends:
            try:
                found += self._of(name, request, only)
            except StorageError as error:
                if len(request.backends) == 1:
                    raise
                found.append(Candidate(backend=name, pool=None, room=None, reason=str(error)))
        # Stable, so equal ones stay as the administrator and the driver have them.
        return sorted(found, key=lambda c: (bool(c.reason), c.room is None, -(c.room or 0.0)))

    @contextlib.contextmanager
    def chosen(self, request: Request, volume_id: str, *, only: str | None = None) -> Iterator[tuple[str, Reservation]]:
        """Yield the backend and the reservation for a volume, which the caller writes, with the
        locks of the backends held.

        :param only: a pool that the volume cannot leave; empty: it is not known, and nothing can
            be checked.
        :raises ResourceExhaustedError: no pool has room; ``details`` has ``pools``.
        """
        with self.core.locks.held(*(f"room/{name}" for name in sorted({*request.backends})), why="a look at the free space"):
            found = self.candidates(request, only=only)
            best = found[0] if found else None
            if best is None or best.reason:
                raise _exhausted(request, found)
            pool = best.pool.name if best.pool is not None else ""
            yield (
                best.backend,
                Reservation(id=new_id(), volume_id=volume_id, backend=best.backend, pool=pool, gib=request.gib, created=time.time()),
            )

    def settle(self, reservation: Reservation) -> None:
        """Note that the backend has done it; before the volume's record says so."""
        self.core.catalog.update(reservation, finished=time.time())

    def forget(self, reservation: Reservation) -> None:
        """Give back the space of an attempt that failed."""
        self.core.catalog.remove(reservation)

    def _of(self, name: str, request: Request, only: str | None) -> Iterator[Candidate]:
        looked, pools = self._look(name)
        pending = self._pending(name, looked)
        if only == "":
            # A driver that does not tell a volume's pool: nothing can be compared.
            yield Candidate(backend=name, pool=None, room=None, reason="")
            return
        for pool in pools:
            room = pool.room(pending.get(pool.name, 0.0), thick=request.thick)
            reason = ""
            if only is not None and pool.name != only:
                reason = f"the volume stays in pool {only!r}"
            for who, globs in request.pools.items():
                if not reason and not any(fnmatch.fnmatchcase(pool.name, glob) for glob in globs):
                    reason = f"{who} does not allow this pool"
            if not reason and room is not None and room < request.gib:
                reason = f"it has room for {max(0.0, room):g} GiB"
            yield Candidate(backend=name, pool=pool, room=room, reason=reason)
        if only is not None and not any(pool.name == only for pool in pools):
            yield Candidate(backend=name, pool=None, room=None, reason="")

    def _look(self, name: str) -> tuple[float, list[Pool]]:
        """Return the time of a look at the array, before it was asked, and its pools."""
        with self._lock:
            found = self._looks.get(name)
        if found is None or time.time() - found[0] > MAX_AGE:
            found = (time.time(), list(self.core.provider(name).pools()))
            with self._lock:
                self._looks[name] = found
        return found

    def _pending(self, name: str, looked: float) -> dict[str, float]:
        """Return the GiB by pool that were promised and that a look may not show."""
        found: dict[str, float] = {}
        for reservation in self.core.catalog.reservations(backend=name):
            old = reservation.finished is not None and reservation.finished < time.time() - _KEPT
            if old or (reservation.finished is None and self._is_over(reservation)):
                self.core.catalog.remove(reservation)
            elif reservation.finished is None or reservation.finished >= looked:
                found[reservation.pool] = found.get(reservation.pool, 0.0) + reservation.gib
        return found

    def _is_over(self, reservation: Reservation) -> bool:
        """Return whether a reservation is left of an operation that a crash cut off."""
        volume: Volume | None = self.core.catalog.volume_by_id(reservation.volume_id)
        if volume is not None and volume.state in _BUSY:
            return False
        # It may have finished since it was read, which is written before the volume's state.
        now = self.core.catalog.reservations(id=reservation.id)
        return bool(now) and now[0].finished is None


def request_for(kind: TypeEntry | None, gib: int, backends: Sequence[str], pools: dict[str, Sequence[str]]) -> Request:
    """Return the request for a volume of a type.

    :param pools: globs of the policy and of the volume, by their names in messages.
    """
    if kind is not None and kind.pools:
        pools = {**pools, f"type {kind.name!r}": kind.pools}
    thick = kind is not None and kind.extra_specs.get("provisioning:type") == "thick"
    return Request(gib=gib, backends=backends, pools=pools, thick=thick)


def pool_of(core: Core, volume: Volume) -> str:
    """Return the pool that has a volume; empty when nobody can tell."""
    return core.provider(volume.backend).pool_of(as_provider_volume(volume))


def _exhausted(request: Request, found: Sequence[Candidate]) -> ResourceExhaustedError:
    return ResourceExhaustedError(
        f"{request.gib} GiB are needed, and no pool has room: {'; '.join(map(_describe, found)) or 'there is none'}",
        details={"needed_gib": request.gib, "pools": [c.to_wire() for c in found]},
    )


def _describe(found: Candidate) -> str:
    pool = found.pool
    if pool is None:
        return f"{found.backend}: {found.reason}"
    where = f"{found.backend}, pool {pool.name}" if pool.name else found.backend
    known = pool.free_gib is not None and pool.total_gib is not None
    return f"{where}: {found.reason}{f' ({pool.free_gib:g} of {pool.total_gib:g} GiB free)' if known else ''}"
