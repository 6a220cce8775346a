"""Gives the records of a backend another name for it, after it was renamed in the configuration."""

from __future__ import annotations

import logging
from typing import Any

from ... import model, progress, validate
from ...errors import FailedPreconditionError, InvalidArgumentError, NotFoundError
from ...model import Volume
from ...providers import Capability, Provider
from ..operations.core import Caller, Core, as_provider_volume

log = logging.getLogger(__name__)

#: Names that a message lists at most.
_SHOWN = 5


class Renames:
    """Changes of the names of backends. Nothing on the array changes."""

    def __init__(self, core: Core) -> None:
        self.core = core

    def rename(self, *, old: Any, new: Any, force: Any = False, apply: Any = False) -> list[dict[str, Any]]:
        """Give everything that is recorded for one backend to another name of it.

        An interrupted call is repeated, and goes on.

        :param old: its former name, which is no longer configured.
        :param new: its name in the configuration.
        :param force: also where the driver cannot tell whether it is the same storage, or says
            that volumes are missing there.
        :param apply: False only tells the volumes.
        :returns: for each volume ``owner``, ``name``, ``id``, ``backend`` (the new one) and
            ``done``.
        :raises InvalidArgumentError: the former name is still configured, or the new one is not.
        :raises NotFoundError: nothing is recorded for the former name.
        :raises FailedPreconditionError: the storage does not have the volumes.
        """
        old, target = validate.name(old, "old"), self.core.config.backend(validate.name(new, "new")).name
        force, apply = validate.boolean(force, "force"), validate.boolean(apply, "apply")
        if old in self.core.config.backends:
            text = f"backend {old!r} is still configured; only its name is to change there first, to {target!r}"
            raise InvalidArgumentError(text, field="old")
        volumes = self.core.catalog.volumes(backend=old)
        moves = [move for move in self.core.catalog.moves() if old in (move.source_backend, move.target_backend)]
        if not volumes and not moves:
            known = sorted({volume.backend for volume in self.core.catalog.volumes()} - {*self.core.config.backends})
            raise NotFoundError(
                f"nothing is recorded for backend {old!r}; backends that are recorded and not configured: {', '.join(known) or 'none'}",
                field="old",
            )
        provider = self.core.provider(target)
        self._check_same(provider, old, target, volumes, force=force)
        if apply:
            provider.take_state(old)
        for number, volume in enumerate(volumes):
            progress.step(f"volume {number + 1} of {len(volumes)}", done=number, total=len(volumes))
            if apply:
                self._change(provider, volume, old, target)
        if apply and moves:
            keys = ("source_backend", "target_backend")
            self.core.catalog.apply(
                update=[(move, {key: target for key in keys if getattr(move, key) == old}) for move in moves],
            )
        if apply:
            log.warning("storage: %d volumes of backend %r belong to backend %r now", len(volumes), old, target)
        return [{"owner": v.owner, "name": v.name, "id": v.id, "backend": target, "done": apply} for v in volumes]

    def _change(self, provider: Provider, volume: Volume, old: str, new: str) -> None:
        with self.core.held(Caller(), "new name of the backend", (volume.owner, volume.name)):
            now = self.core.catalog.volume_by_id(volume.id)
            if now is None or now.backend != old:
                return
            # First, since the record says that it is still to be done.
            provider.take_metadata(as_provider_volume(now), old)
            snapshots = self.core.catalog.snapshots(volume_id=now.id)
            self.core.catalog.apply(update=[(now, {"backend": new}), *((snapshot, {"backend": new}) for snapshot in snapshots)])

    def _check_same(self, provider: Provider, old: str, new: str, volumes: list[Volume], *, force: bool) -> None:
        if force:
            return
        if Capability.LIST not in provider.capabilities():
            raise FailedPreconditionError(
                f"the driver of backend {new!r} cannot list volumes, so nothing tells whether it is the storage that was {old!r}; "
                "force=True renames all the same"
            )
        there = {found.id for found in provider.list_volumes()}
        missing = [f"{v.name!r} of {v.owner}" for v in volumes if v.state == model.AVAILABLE and v.id not in there]
        if missing:
            more = f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
            raise FailedPreconditionError(
                f"backend {new!r} does not list {len(missing)} of the {len(volumes)} volumes of {old!r}: "
                f"{', '.join(missing[:_SHOWN])}{more}; it may be another storage; force=True renames all the same"
            )
