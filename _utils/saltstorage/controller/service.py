"""The controller as a whole: the same object serves the engine (warm), the runner and masterless minions (in process)."""

from __future__ import annotations

import dataclasses
import functools
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
from .admin.adoption import Adoption
from .admin.check import Check
from .admin.cinderlib_import import Import
from .admin.giving import Giving
from .admin.moves import Moves
from .admin.recovery import Recovery
from .admin.repair import Repair
from .catalog.catalog import Catalog
from .catalog.journal import Journal
from .operations.backends import Backends
from .operations.connections import Connections
from .operations.core import Caller, Core
from .operations.reverts import Reverts
from .operations.snapshots import Snapshots
from .operations.volumes import Volumes

Operation = Callable[..., dict[str, Any]]
#: How long an end waits for a recovery that is under way, seconds.
CLOSE_TIMEOUT = 10.0
#: Operations that states send together.
_TOGETHER = ("create", "connect", "disconnect", "delete")


class Service:
    """The controller's operations, over one configuration.

    Constructing it opens the catalog and reads nothing else: no driver is loaded before an operation needs it.

    :param opts: Salt's options of the master, or of a masterless minion.
    :raises StorageError: the configuration is wrong, or the catalog or the locks cannot be used.
    """

    def __init__(self, opts: Mapping[str, Any]) -> None:
        self.config = ControllerConfig.from_opts(opts)
        self.catalog = Catalog(self.config.database)
        self._opts = opts
        self._stop = threading.Event()
        self._watchers: list[threading.Thread] = []

    @functools.cached_property
    def core(self) -> Core:
        """The parts that operations need; the locks are opened with them."""
        return Core(
            self.config,
            self.catalog,
            Locks(self.config.coordination, self.config.lock_timeout),
            Backends(self.config, self.catalog),
        )

    @functools.cached_property
    def journal(self) -> Journal:
        """The journal of requests, for an engine."""
        return Journal(self.catalog, self.core.locks, self.config.request_max_age)

    @functools.cached_property
    def operations(self) -> dict[str, Operation]:
        """What a minion can ask for, by name. Each takes the caller and keyword arguments."""
        return {
            "inventory": self.inventory,
            "create": self.volumes.create,
            "extend": self.volumes.extend,
            "update": self.volumes.update,
            "delete": self.volumes.delete,
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

    @functools.cached_property
    def volumes(self) -> Volumes:
        """The operations on volumes."""
        volumes = Volumes(self.core)
        adoption = Adoption(self.core, volumes)
        volumes.release = adoption.release
        volumes.settlers = {
            model.ADOPTING: adoption.settle_adopting,
            model.RELEASING: adoption.settle_releasing,
            model.MIGRATING: Moves(self.core, volumes, self._mover).settle,
        }
        return volumes

    @functools.cached_property
    def connections(self) -> Connections:
        """The operations on connections."""
        return Connections(self.core, self.volumes)

    @functools.cached_property
    def snapshots(self) -> Snapshots:
        """The operations on snapshots."""
        return Snapshots(self.core, self.volumes)

    @functools.cached_property
    def reverts(self) -> Reverts:
        """Setting volumes back."""
        return Reverts(self.core, self.volumes)

    # What only the administrator does, on the master.

    @functools.cached_property
    def adoption(self) -> Adoption:
        """Taking over volumes that exist on a backend, and letting volumes go."""
        return Adoption(self.core, self.volumes)

    @functools.cached_property
    def importing(self) -> Import:
        """Importing what another cinderlib made."""
        return Import(self.core, self.volumes, self._opts)

    @functools.cached_property
    def giving(self) -> Giving:
        """Giving volumes to other owners."""
        return Giving(self.core, self.volumes)

    @functools.cached_property
    def moves(self) -> Moves:
        """Moving volumes between backends."""
        return Moves(self.core, self.volumes, self._mover)

    @functools.cached_property
    def recovery(self) -> Recovery:
        """Recovery of what was cut off."""
        return Recovery(self.core, self.volumes, self.connections, self.snapshots, self.reverts, self.moves)

    def check(self, known: Callable[[str], bool] | None = None) -> Check:
        """Return what looks for things that are not as they should be.

        :param known: tells whether a minion has an accepted key; None when nobody can.
        """
        return Check(self.core, known)

    def repair(self) -> Repair:
        """Return what mends them. Keys do not matter to it: what concerns them is the administrator's to decide."""
        return Repair(self.core, self.check(), self.recovery)

    def _mover(self) -> Consumer:
        """Return what attaches volumes on this machine while they are moved."""
        config = ConsumerConfig.from_opts(self._opts)
        state_dir = os.path.join(self.config.state_dir, "mover")
        # Arrays know a machine by its initiator, so it must have one name, also when it is a minion too; Salt adds this to the master's.
        host = config.host.removesuffix("_master")
        return Consumer(dataclasses.replace(config, host=host, state_dir=state_dir, device_dir=os.path.join(state_dir, "devices")))

    # Life.

    def start(self, *, patience: float | None = None) -> None:
        """Load all backends in the background and recover what each has left half done; for the engine.

        :param patience: seconds from now until which operations wait for their backend to be loaded; default a short time, since other
            minions wait too.
        """
        # Built here, by one thread: cached properties are not safe against several first users.
        _ = (self.journal, self.operations)
        self._watchers += self.core.backends.watch(self.recovery.run, self.recovery.restore_failed, self._stop, patience)

    def close(self) -> None:
        """Stop what :meth:`start` started and let go of drivers, locks and the catalog."""
        self._stop.set()
        # What a watcher is recovering needs what is closed next. One whose driver hangs while it loads is not waited for.
        deadline = time.monotonic() + CLOSE_TIMEOUT
        for watcher in self._watchers:
            watcher.join(max(0.0, deadline - time.monotonic()))
        if "journal" in self.__dict__:
            self.journal.close()
        if "core" in self.__dict__:
            self.core.backends.close()
            self.core.locks.close()
        self.catalog.close()

    # Operations.

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
        """Carry out several requests one after another, each for itself: what one raises does not keep the next from being done.

        :param requests: a list of ``{"op": …, "args": {…}}``.
        :returns: ``replies``: for each ``data``, or ``error`` as :meth:`~saltstorage.errors.StorageError.to_wire` returns it.
        :raises InvalidArgumentError: they are malformed, or more than :data:`~saltstorage.validate.MAX_TOGETHER`; none is carried out.
        """
        replies: list[dict[str, Any]] = []
        for number, request in enumerate(requests):
            progress.step(f"{request['op']}, {number + 1} of {len(requests)}", done=number, total=len(requests))
            try:
                if request["op"] not in _TOGETHER:
                    raise InvalidArgumentError(f"the operation {request['op']!r} cannot be asked for together with others", field="op")
                replies.append({"data": self.call(request["op"], validate.mapping(request["args"], "args"), caller)})
            except Exception as error:  # a fault in one is no reason to leave the others undone, or unanswered
                replies.append({"error": as_storage_error(error, f"operation {request['op']}").to_wire()})
        return {"replies": replies}

    def inventory(self, caller: Caller, *, after: Any = None) -> dict[str, Any]:
        """Return everything that a minion may see: what a state run needs to tell whether there is anything to do.

        About a thousand volumes fit into one answer. ``more`` says that there are more, and is what to ask for the next page with.

        :param after: ``more`` of the page before; None for the first.
        :returns: ``volumes``, ``snapshots`` and ``connections`` (of those volumes, to any host) of the minion and of the
            shared volumes that it may use; ``fenced``: of each volume that was taken from this minion while it was fenced, the ids that it
            had then and has by now, whoever owns it, also when it is gone; ``backends``: name to ``state`` and ``retains`` (whether it can
            let go of volumes; None: not known), for those that it may use; ``default_backend``; ``types``: name to
            ``backend`` (None: any), for those that it may use; ``retain``: whether it may delete volumes and leave
            their data on the backend; ``time``: now, seconds since the epoch; ``more``: None on the last page.
        :raises InvalidArgumentError: ``after`` is wrong.
        """
        from .operations.inventory import page

        return page(self.core, caller, after)

    # Reading, for the runner.

    def backends(self) -> list[dict[str, Any]]:
        """Return the configured backends and what the engine last found, without loading a driver.

        :returns: a list of ``name``, ``provider``, ``driver``, ``default``, ``state`` (up, down or unknown), ``error``,
            ``capabilities``, ``checked`` (seconds since the epoch, or None) and ``allocated_gib``.
        """
        states = self.catalog.backend_states()
        found = []
        for name, entry in self.config.backends.items():
            state = states.get(name, {})
            found.append(
                {
                    "name": name,
                    "provider": entry.provider,
                    "driver": entry.options.get("volume_driver"),
                    "default": name == self.config.default_backend,
                    "state": state.get("state", "unknown"),
                    "error": state.get("error", ""),
                    "capabilities": state.get("capabilities", []),
                    "checked": state.get("checked"),
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

        :raises NotFoundError: there is none.
        """
        volume = self.catalog.volume(owner, name)
        if volume is None:
            raise NotFoundError(f"there is no volume {name!r} of {owner}; salt-run storage.volumes lists them", field="name")
        return volume
