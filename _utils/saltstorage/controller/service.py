"""The controller as a whole: the same object serves the engine (warm), the runner and masterless
minions (in process).
"""

from __future__ import annotations

import dataclasses
import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from .. import model, progress, validate
from ..consumer.consumer import Consumer
from ..consumer.host.config import ConsumerConfig
from ..errors import InvalidArgumentError, NotFoundError
from ..faults import as_storage_error
from ..model import BackendStats, Volume
from . import arguments
from .access.config import ControllerConfig
from .access.locks import Locks
from .admin.adoption import Adoption, Takeover
from .admin.check import Check
from .admin.cinderlib_import import Import
from .admin.moves import Mover, Moves
from .admin.recovery import Recovery
from .admin.renames import Renames
from .admin.repair import Repair
from .admin.transfers import Transfers
from .catalog.catalog import Catalog
from .catalog.journal import Journal
from .operations import identities
from .operations.backends import Backends, Look
from .operations.connections import Connections
from .operations.core import Caller, Core
from .operations.releases import Releases
from .operations.reverts import Reverts
from .operations.snapshots import Snapshots
from .operations.volumes import Volumes

Operation = Callable[..., dict[str, Any]]
log = logging.getLogger(__name__)

#: How long an end waits for a recovery that is under way, seconds.
CLOSE_TIMEOUT = 10.0
#: Operations that states send together.
_TOGETHER = ("create", "connect", "disconnect", "delete")


class Service:
    """The controller's operations, over one configuration.

    Constructing it opens the catalog and reads nothing else: the locks are joined, and a driver
    is loaded, when an operation needs them.

    :param opts: Salt's options of the master, or of a masterless minion.
    :ivar operations: the operations that a minion can ask for, by name. Each takes the caller and
        keyword arguments.
    :raises StorageError: the configuration is wrong, or the catalog cannot be used.
    """

    def __init__(self, opts: Mapping[str, Any]) -> None:
        self.config = ControllerConfig.from_opts(opts)
        self.catalog = Catalog(self.config.database)
        self._opts = opts
        self._stop = threading.Event()
        self._watchers: list[threading.Thread] = []
        locks = Locks(self.config.coordination, self.config.lock_timeout)
        self.core = core = Core(self.config, self.catalog, locks, Backends(self.config, self.catalog))
        self.journal = Journal(self.catalog, locks, self.config.request_max_age)
        releases, takeover, mover = Releases(core), Takeover(core), Mover(core, self._consumer)
        self.volumes = volumes = Volumes(core, releases, {model.ADOPTING: takeover.settle, model.MIGRATING: mover.settle})
        self.connections = Connections(core, volumes)
        self.snapshots = Snapshots(core, volumes)
        self.reverts = Reverts(core, volumes)
        # The administrator's, on the master.
        self.adoption = Adoption(core, volumes, takeover, releases)
        self.importing = Import(core, volumes)
        self.transfers = Transfers(core, volumes)
        self.renames = Renames(core)
        self.moves = Moves(core, volumes, mover)
        self.recovery = Recovery(core, volumes, self.connections, self.snapshots, self.reverts, mover)
        self.operations: Mapping[str, Operation] = {
            "inventory": self.inventory,
            "create": volumes.create,
            "extend": volumes.extend,
            "update": volumes.update,
            "delete": volumes.delete,
            "connect": self.connections.connect,
            "disconnect": self.connections.disconnect,
            "followed": self.connections.followed,
            "mark_formatted": self.connections.mark_formatted,
            "snapshot_ready": self.snapshots.ready,
            "snapshot_create": self.snapshots.create,
            "snapshot_mark_frozen": self.snapshots.mark_frozen,
            "snapshot_delete": self.snapshots.delete,
            "snapshot_revert": self.reverts.revert,
            "together": self.together,
        }

    def check(self, known: Callable[[str], bool] | None = None) -> Check:
        """Return the check of backends and catalog.

        :param known: tells whether a minion has an accepted key; None where there are no keys.
        """
        return Check(self.core, known)

    def repair(self) -> Repair:
        """Return the repair of a check's findings. It needs no keys: findings on keys are the
        administrator's to decide.
        """
        return Repair(self.core, self.check(), self.recovery)

    def _consumer(self) -> Consumer:
        """Return the consumer that attaches volumes on this machine while they are moved."""
        config = ConsumerConfig.from_opts(self._opts)
        state_dir = os.path.join(self.config.state_dir, "mover")
        # Arrays know a machine by its initiator, so it must have one name, also when it is a
        # minion too. Salt adds the suffix to a master's id.
        host = config.host.removesuffix("_master")
        devices = os.path.join(state_dir, "devices")
        return Consumer(dataclasses.replace(config, host=host, state_dir=state_dir, device_dir=devices, in_process=True))

    def start(self, *, patience: float | None = None) -> None:
        """Load all backends in the background and recover the half done work on each; for the
        engine.

        :param patience: seconds from now until which operations wait for their backend to be
            loaded; default a short time, since other minions wait too.
        :raises StorageError: the locks cannot be used.
        """
        self.journal.open()
        for initiator, other in self.connections.identities.seed():
            log.error(
                "storage: %s and %s use the %s %s; salt-run storage.check says more",
                *(initiator.minion, other, identities.KINDS[initiator.kind][0], initiator.value),
            )
        self._watchers += self.core.backends.watch(self.recovery.run, self.recovery.restore_failed, self._stop, patience)

    def close(self) -> None:
        """Stop what :meth:`start` started, and let go of drivers, locks and the catalog."""
        self._stop.set()
        # A watcher may still be using the catalog that is closed below. A driver that hangs while
        # it loads holds nobody up.
        deadline = time.monotonic() + CLOSE_TIMEOUT
        for watcher in self._watchers:
            watcher.join(max(0.0, deadline - time.monotonic()))
        self.journal.close()
        self.core.backends.close()
        self.core.locks.close()
        self.catalog.close()

    def execute(self, op: str, args: Mapping[str, Any], caller: str) -> dict[str, Any]:
        """Carry out what a minion asks for.

        :param op: one of :attr:`operations`.
        :param args: the operation's parameters by name.
        :param caller: the minion's id, proven.
        :returns: plain data, as the operation says; it may hold secrets.
        :raises InvalidArgumentError: there is no such operation or parameter, or one is missing.
        :raises StorageError: as the operation says.
        """
        return self.call(op, args, Caller(caller))

    def call(self, op: str, args: Mapping[str, Any], caller: Caller) -> dict[str, Any]:
        """Carry out an operation for a caller; see :meth:`execute`."""
        operation = self.operations.get(op)
        if operation is None:
            raise InvalidArgumentError(f"the controller has no operation {op!r}", field="op")
        return operation(caller, **arguments.decode(op, operation, args))

    def together(self, caller: Caller, *, requests: list[Mapping[str, Any]]) -> dict[str, Any]:
        """Carry out several requests one after another, each for itself: the error of one does
        not keep the next from being done.

        :param requests: a list of ``{"op": …, "args": {…}}``.
        :returns: ``replies``: for each request ``data``, or ``error`` as
            :meth:`~saltstorage.errors.StorageError.to_wire` returns it.
        :raises InvalidArgumentError: they are malformed, or more than
            :data:`~saltstorage.validate.MAX_TOGETHER`; none is carried out.
        """
        replies: list[dict[str, Any]] = []
        for number, request in enumerate(requests):
            progress.step(f"{request['op']}, {number + 1} of {len(requests)}", done=number, total=len(requests))
            try:
                if request["op"] not in _TOGETHER:
                    raise InvalidArgumentError(f"the operation {request['op']!r} cannot be asked for together with others", field="op")
                replies.append({"data": self.call(request["op"], validate.mapping(request["args"], "args"), caller)})
            # A fault in one is no reason to leave the others undone, or unanswered.
            except Exception as error:
                replies.append({"error": as_storage_error(error, f"operation {request['op']}").to_wire()})
        return {"replies": replies}

    def inventory(self, caller: Caller, *, after: Any = None) -> dict[str, Any]:
        """Return all that a minion may see, so that a state run can tell whether there is
        anything to do.

        One answer holds about 650 connected volumes. A larger inventory comes in pages: ``more``
        of a page asks for the next one.

        :param after: ``more`` of the page before; None for the first.
        :returns: ``volumes``, ``snapshots`` and ``connections`` (of those volumes, to any host)
            of the minion and of the shared volumes that it may use; ``fenced``: for each fence of
            this minion, the ids that the volume had then and has now, also when it is another
            owner's or gone; ``backends``: name to ``state`` and ``retains`` (whether it can let
            go of volumes; None: not known), for those that the minion may use;
            ``default_backend``; ``types``: name to ``backends`` (empty: any), for those that the
            minion may use; ``retain``: whether the minion may delete volumes and leave their data
            on the backend; ``time``: now, seconds since the epoch; ``more``: None on the last
            page.
        :raises InvalidArgumentError: ``after`` is wrong.
        """
        from .operations.inventory import page

        return page(self.core, caller, after)

    def backends(self) -> list[dict[str, Any]]:
        """Return the configured backends with their present states, without
        loading a driver.

        :returns: a list of ``name``, ``provider``, ``driver``, ``default``, ``state`` (up, down
            or unknown), ``error``, ``capabilities``, ``checked`` (when the array was last asked,
            seconds since the epoch, or None) and ``allocated_gib``.
        """
        former = {} if self._watchers else self.catalog.backend_states()
        found = []
        for name, entry in self.config.backends.items():
            look = self.core.backends[name].look() if self._watchers else _former(former.get(name))
            found.append(
                {
                    "name": name,
                    "provider": entry.provider,
                    "driver": entry.options.get("volume_driver"),
                    "default": name == self.config.default_backend,
                    "state": look.state,
                    "error": look.error,
                    "capabilities": sorted(look.capabilities),
                    "checked": look.checked,
                    "allocated_gib": self.catalog.allocated(name),
                }
            )
        return found

    def backend_stats(self, name: str) -> BackendStats:
        """Return fresh statistics of a backend; its driver is loaded for that."""
        entry = self.config.backend(name)
        stats = self.core.provider(entry.name).stats()
        return BackendStats.from_wire({**stats.to_wire(), "name": entry.name, "allocated_gib": float(self.catalog.allocated(entry.name))})

    def volume(self, owner: str, name: str) -> Volume:
        """Return one volume.

        :raises NotFoundError: there is no such volume.
        """
        volume = self.catalog.volume(owner, name)
        if volume is None:
            raise NotFoundError(f"there is no volume {name!r} of {owner}; salt-run storage.volumes lists them", field="name")
        return volume


def _former(recorded: Mapping[str, Any] | None) -> Look:
    """Return what is known of a backend that no controller looks after now."""
    was = f"; when one last looked, it was {recorded['state']}" if recorded else ""
    error = f"no storage controller runs here{was}; salt-run storage.backend_stats asks the array now"
    return Look(state="unknown", error=error, checked=recorded["checked"] if recorded else None)
