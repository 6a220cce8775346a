"""The inventory: the controller's records for this minion.

It is asked for once in a state run, and the run's own changes keep it up to date.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any

from .. import validate
from ..errors import InvalidArgumentError, PermissionDeniedError
from ..model import Connection, Snapshot, Volume

_CONTEXT_KEY = "saltstorage.inventory"
#: The kinds of records that may come in pages.
_PAGED = ("volumes", "snapshots", "connections", "fenced")
#: Seconds. A state run may take hours, and must see at some point what others changed meanwhile.
MAX_AGE = 300.0


class Inventory:
    """Volumes, snapshots and connections that this minion may see.

    :param data: the answer of the controller's operation ``inventory``, with all pages.
    """

    def __init__(self, data: Mapping[str, Any]) -> None:
        self.read = time.monotonic()
        self.wire = data
        self._volumes = {(v["owner"], v["name"]): Volume.from_wire(v) for v in data["volumes"]}
        self._snapshots: dict[tuple[str, str], Snapshot] = {}
        # Those of each volume, by its id: a run looks for them once a volume, and there may be
        # thousands of both.
        self._snapshots_of: defaultdict[str, dict[str, Snapshot]] = defaultdict(dict)
        self._connections_of: defaultdict[str, dict[str, Connection]] = defaultdict(dict)
        for snapshot in data["snapshots"]:
            self.put(Snapshot.from_wire(snapshot))
        for connection in data["connections"]:
            self.put(Connection.from_wire(connection))
        self._fenced: dict[str, list[str]] = {volume_id: ids for ids in data["fenced"] for volume_id in ids}
        self.backends: Mapping[str, Any] = data["backends"]
        self.default_backend: str | None = data["default_backend"]
        self.types: Mapping[str, Any] = data["types"]
        self.may_retain: bool = data["retain"]

    def now(self) -> float:
        """Return the controller's time, in seconds since the epoch.

        The times of its records are of the same clock.
        """
        return float(self.wire["time"]) + time.monotonic() - self.read

    def volume(self, owner: str, name: str) -> Volume | None:
        """Return a volume, or None."""
        return self._volumes.get((owner, name))

    def snapshot(self, owner: str, name: str) -> Snapshot | None:
        """Return a snapshot, or None."""
        return self._snapshots.get((owner, name))

    def snapshots_of(self, volume: Volume) -> list[Snapshot]:
        """Return the snapshots of a volume."""
        return list(self._snapshots_of[volume.id].values())

    def connections_of(self, volume: Volume) -> list[Connection]:
        """Return the connections of a volume, to any host."""
        return list(self._connections_of[volume.id].values())

    def fenced(self, *volume_ids: str) -> list[str]:
        """Return all ids of those given volumes that were taken from this host while it was fenced.

        Their devices here are stale.

        Such a volume may be another owner's by now, or gone; then nothing else is known of it
        here. A volume that was moved or taken over again since has two ids: its former one, known
        here, and its present one.
        """
        return list(dict.fromkeys(known for volume_id in volume_ids for known in self._fenced.get(volume_id, ())))

    def check_backend(self, backend: str | None) -> str:
        """Return the backend for a new volume.

        :raises InvalidArgumentError: there is no backend of that name, or no name was given and
            there is no default.
        :raises PermissionDeniedError: this minion may use no backend.
        """
        if not self.backends:
            raise PermissionDeniedError("the controller's policy lets this minion use no backend")
        wanted = self.default_backend if backend is None else validate.name(backend, "backend")
        known = ", ".join(self.backends)
        if wanted is None:
            raise InvalidArgumentError(f"name a backend, since the controller has no default_backend; known: {known}", field="backend")
        if wanted not in self.backends:
            raise InvalidArgumentError(f"backend {wanted!r} is not one that this minion may use: {known}", field="backend")
        return wanted

    def check_type(self, kind: str | None, backend: str | None) -> str:
        """Return the backend for a new volume; of several, the controller chooses one.

        :param kind: type of the volume; None for no type.
        :raises InvalidArgumentError: there is no such type, or it does not fit the backend; and as
            :meth:`check_backend`.
        """
        if kind is None:
            return self.check_backend(backend)
        if kind not in self.types:
            known = ", ".join(self.types) or "none"
            raise InvalidArgumentError(f"type {kind!r} is not one that this minion may use: {known}", field="type")
        of_type = self.types[kind]["backends"]
        if backend is not None and of_type and backend not in of_type:
            named = " and ".join(map(repr, of_type))
            text = f"volumes of type {kind!r} are on backend {named}, not on {backend!r}; name one of the two only"
            raise InvalidArgumentError(text, field="backend")
        if backend is not None or not of_type:
            return self.check_backend(backend)
        # The ones that the policy lets this minion use; none is refused by the first name.
        return " or ".join(name for name in of_type if name in self.backends) or self.check_backend(of_type[0])

    # Changes that this run made.

    def unfence(self, *volume_ids: str) -> None:
        """Forget that this host was cut off from volumes."""
        for volume_id in volume_ids:
            self._fenced.pop(volume_id, None)

    def put(self, record: Volume | Snapshot | Connection) -> None:
        """Take up a record as the controller returned it."""
        if isinstance(record, Connection):
            self._connections_of[record.volume_id][record.host] = record
        elif isinstance(record, Volume):
            self._volumes[record.owner, record.name] = record
        else:
            self._forget_snapshot(record)
            self._snapshots[record.owner, record.name] = record
            self._snapshots_of[record.volume_id][record.name] = record

    def drop(self, record: Volume | Snapshot | Connection) -> None:
        """Forget a record that the controller does not have any more."""
        if isinstance(record, Connection):
            self._connections_of[record.volume_id].pop(record.host, None)
        elif isinstance(record, Volume):
            self._volumes.pop((record.owner, record.name), None)
        else:
            self._forget_snapshot(record)

    def _forget_snapshot(self, snapshot: Snapshot) -> None:
        """Forget the record under a snapshot's name; it may belong to another volume."""
        known = self._snapshots.pop((snapshot.owner, snapshot.name), None)
        if known is not None:
            self._snapshots_of[known.volume_id].pop(known.name, None)


def current(context: MutableMapping[str, Any], run: str | None) -> Inventory | None:
    """Return the inventory of this state run; None when it was not asked for yet.

    :param context: ``__context__``.
    :param run: identity of this run, ``__instance_id__``; None outside of states, where nothing is
        kept.
    """
    kept = context.get(_CONTEXT_KEY)
    if run is None or kept is None or kept[0] != run or time.monotonic() - kept[1].read > MAX_AGE:
        return None
    inventory: Inventory = kept[1]
    return inventory


def fetch(ask: Callable[[str, Mapping[str, Any]], Mapping[str, Any]], context: MutableMapping[str, Any], run: str | None) -> Inventory:
    """Return the inventory of this state run, asking the controller at most once.

    That is one request, unless the inventory is so large that it comes in pages.

    :param ask: carries out an operation of the controller.
    """
    found = current(context, run)
    if found is None:
        data = dict(ask("inventory", {}))
        while (after := data["more"]) is not None:
            page = ask("inventory", {"after": after})
            data.update(page, **{kind: data[kind] + page[kind] for kind in _PAGED})
        found = Inventory(data)
        if run is not None:
            context[_CONTEXT_KEY] = (run, found)
    return found
