"""Gives a volume, with its snapshots, to another owner."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from ... import validate
from ...errors import AlreadyExistsError, FailedPreconditionError, NotFoundError
from ...model import Volume
from ..access.locks import owner_key
from ..operations.core import Caller, Core
from ..operations.volumes import Volumes

log = logging.getLogger(__name__)


class Transfers:
    """Changes of owner. Nothing on the backend changes, so each is one transaction of
    the catalog.
    """

    def __init__(self, core: Core, volumes: Volumes) -> None:
        self.core = core
        self.volumes = volumes

    def give(
        self,
        *,
        owner: Any,
        name: Any,
        new_owner: Any,
        new_name: Any = None,
        force: Any = False,
        known: Callable[[str], bool] | None = None,
    ) -> dict[str, Any]:
        """Give a volume to another owner, or another name to a volume.

        :param new_owner: minion that it then belongs to, or ``shared``.
        :param new_name: its new name; None keeps the name.
        :param force: give it also to a minion that is not known.
        :param known: tells whether a minion has an accepted key; None when nobody can tell, as
            without a master.
        :returns: ``old`` as it was, ``volume`` as it is now, and ``snapshots``: the names of those
            that went along.
        :raises NotFoundError: the volume does not exist, or the new owner is not known.
        :raises FailedPreconditionError: it is connected.
        :raises AlreadyExistsError: the new owner has a volume, or a snapshot, of that name.
        :raises PermissionDeniedError: the policy does not let the new owner use the backend.
        :raises ResourceExhaustedError: the new owner would own more than it may.
        """
        owner, name = validate.name(owner, "owner"), validate.name(name)
        new_owner = validate.name(new_owner, "new_owner")
        new_name = name if new_name is None else validate.name(new_name, "new_name")
        if not validate.boolean(force, "force") and new_owner not in (owner, validate.SHARED_OWNER) and known and not known(new_owner):
            # A minion that later gets a misspelt id also gets the data.
            raise NotFoundError(
                f"{new_owner} has no accepted key on this master; correct the id, accept its key (salt-key -a), or say force=True",
                field="new_owner",
            )
        with (
            self.core.held(Caller(), "change of owner", (owner, name), (new_owner, new_name)),
            self.core.locks.held(owner_key(new_owner), why="a look at the quota"),
        ):
            volume = self.volumes.usable(owner, name)
            if (owner, name) == (new_owner, new_name):
                return {"old": volume.to_wire(), "volume": volume.to_wire(), "snapshots": []}
            connections = self.core.catalog.connections(volume_id=volume.id)
            if connections:
                hosts = ", ".join(c.host for c in connections)
                raise FailedPreconditionError(f"volume {name!r} is connected to {hosts}; disconnect it there first")
            if self.core.catalog.volume(new_owner, new_name) is not None:
                raise AlreadyExistsError(f"{new_owner} has a volume {new_name!r}; give it another new_name", field="new_name")
            snapshots = self.core.catalog.snapshots(volume_id=volume.id)
            taken = [s.name for s in snapshots if new_owner != owner and self.core.catalog.snapshot(new_owner, s.name) is not None]
            if taken:
                names = ", ".join(map(repr, taken))
                raise AlreadyExistsError(
                    f"{new_owner} has snapshots of the names {names}, which this volume's have too; delete one of each"
                )
            if new_owner != owner:
                self._check_policy(volume, new_owner, volume.size + sum(s.size for s in snapshots))
            moves = self.core.catalog.moves(owner=owner, name=name)
            self.core.catalog.apply(
                update=[
                    (volume, {"owner": new_owner, "name": new_name}),
                    *((s, {"owner": new_owner, "volume": new_name}) for s in snapshots),
                    *((m, {"owner": new_owner, "name": new_name}) for m in moves),
                ]
            )
            now = self.core.volume(new_owner, new_name)
        log.warning("storage: volume %s (%r of %s) was given to %s as %r", volume.id, name, owner, new_owner, new_name)
        return {"old": volume.to_wire(), "volume": now.to_wire(), "snapshots": [s.name for s in snapshots]}

    def _check_policy(self, volume: Volume, new_owner: str, gib: int) -> None:
        if new_owner == validate.SHARED_OWNER:
            return
        rule = self.core.rule(Caller(new_owner))
        rule.check_backend(new_owner, volume.backend)
        count, used = self.core.catalog.usage(new_owner)
        rule.check_usage(new_owner, count + 1, used + gib)
