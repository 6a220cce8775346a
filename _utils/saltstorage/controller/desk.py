"""The calls that only the administrator makes, by name: the runner asks a controller in another
process. Plain data goes in and comes out.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping
from typing import Any

from .. import validate
from ..errors import BY_CODE, InvalidArgumentError
from . import reports
from .admin import validation
from .operations.core import Caller
from .service import Service


def call(service: Service, name: str, args: Mapping[str, Any]) -> Any:
    """Carry out a call of the administrator.

    :param name: one of :data:`CALLS`.
    :param args: its arguments.
    :returns: plain data, as the runner's function of that name returns it.
    :raises InvalidArgumentError: there is no such call, or its arguments are wrong.
    :raises StorageError: as the call says.
    """
    function = CALLS.get(name)
    if function is None:
        raise InvalidArgumentError(f"the controller has no call {name!r}", field="call")
    _check(name, function, (service,), args)
    return function(service, **args)


def drivers(args: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the drivers that can be used; see the runner's function. It imports all of them, so a
    controller that goes on does not do this.

    :param args: ``name``, empty for all, and ``options``, whether theirs are listed.
    :raises InvalidArgumentError: an argument is missing or unknown.
    """
    from .cinder.drivers_list import list_drivers

    _check("drivers", list_drivers, (), args)
    return list_drivers(**args)


def try_backend(settings: Mapping[str, Any] | None, args: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Try a backend, configured or not; see the runner's function ``validate``.

    :param settings: those of this process.
    :raises InvalidArgumentError: there is no such backend, or an argument is wrong.
    :raises StorageError: a step failed.
    """
    _check("validate", validation.run, (settings,), args)
    return validation.run(settings, **args)


def _check(name: str, function: Callable[..., Any], given: tuple[Any, ...], args: Mapping[str, Any]) -> None:
    try:
        inspect.signature(function).bind(*given, **args)
    except TypeError as error:
        raise InvalidArgumentError(f"{name}: {error}") from None


def _operate(service: Service, op: str, args: Mapping[str, Any]) -> dict[str, Any]:
    """Carry out an operation that minions have too."""
    return service.call(op, args, Caller())


def _backends(service: Service) -> list[dict[str, Any]]:
    return [reports.backend(found) for found in service.backends()]


def _backend_stats(service: Service, name: str | None = None) -> dict[str, Any]:
    found = reports.stats(service.backend_stats(name))  # type: ignore[arg-type]
    return {**found, "pools": [pool.to_wire() for pool in service.core.provider(found["name"]).pools()]}


def _place(
    service: Service, size: Any, backend: str | None = None, type: str | None = None, pool: str | None = None, minion: str | None = None
) -> list[dict[str, Any]]:
    kind = service.core.config.type(type) if type is not None else None
    caller = Caller() if minion is None else Caller(validate.name(minion, "minion"))
    pool = None if pool is None else validate.name(pool, "pool")
    request = service.volumes.request(caller, validate.size_gib(size, "size"), backend, kind, pool)
    rows = [found.to_wire() for found in service.volumes.placement.candidates(request)]
    return [{**row, "chosen": number == 0 and not row["reason"]} for number, row in enumerate(rows)]


def _volumes(service: Service, **where: Any) -> list[dict[str, Any]]:
    from .catalog.listing import Filter, find

    result = [reports.volume(found, hosts) for found, hosts in find(service.catalog, Filter.from_user(**where))]
    if not result and where.get("backend") is not None:
        # A mistyped backend would read as one without volumes; a former backend may have some.
        service.core.config.backend(where["backend"])
    return result


def _volume(service: Service, name: str, owner: str) -> dict[str, Any]:
    found = service.volume(validate.name(owner, "owner"), validate.name(name))
    connected = service.catalog.connections(volume_id=found.id)
    return {
        **reports.volume(found, [c.host for c in connected]),
        "behind": [c.host for c in connected if c.behind(found)],
        "connections": [reports.connection(c) for c in connected],
        "snapshots": [reports.snapshot(s) for s in service.catalog.snapshots(volume_id=found.id)],
    }


def _connections(service: Service, **where: Any) -> list[dict[str, Any]]:
    return [reports.connection(c) for c in service.catalog.connections(**where)]


def _snapshots(service: Service, **where: Any) -> list[dict[str, Any]]:
    return [reports.snapshot(s) for s in service.catalog.snapshots(**where)]


def _findings(service: Service, known: Collection[str] | None = None, **where: Any) -> list[dict[str, Any]]:
    accepted = None if known is None else frozenset(known).__contains__
    return [reports.finding(found.to_wire()) for found in service.check(accepted).findings(**where)]


def _repair(service: Service, **how: Any) -> list[dict[str, Any]]:
    return complete([reports.mended(found) for found in service.repair().run(**how)], "findings")


def _manageable(service: Service, **where: Any) -> list[dict[str, Any]]:
    return [reports.manageable(found) for found in service.adoption.manageable(**where)]


def _import_cinderlib(service: Service, **how: Any) -> list[dict[str, Any]]:
    return complete([reports.imported(found) for found in service.importing.run(**how)], "volumes")


def _give(service: Service, known: Collection[str] | None = None, **how: Any) -> dict[str, Any]:
    return service.transfers.give(**how, known=None if known is None else frozenset(known).__contains__)


#: Each takes the service and keyword arguments; ``known`` are the minions with an accepted key, or
#: None where there are no keys.
CALLS: Mapping[str, Callable[..., Any]] = {
    "operate": _operate,
    "backends": _backends,
    "backend_stats": _backend_stats,
    "place": _place,
    "volumes": _volumes,
    "volume": _volume,
    "connections": _connections,
    "snapshots": _snapshots,
    "check": _findings,
    "initiators": lambda service, **where: [reports.initiator(found) for found in service.catalog.initiators(**where)],
    "bind": lambda service, **how: reports.initiator(service.connections.identities.bind(**how)),
    "unbind": lambda service, **how: reports.initiator(service.connections.identities.unbind(**how)),
    "repair": _repair,
    "manageable": _manageable,
    "manage": lambda service, **how: service.adoption.manage(**how),
    "unmanage": lambda service, **how: service.adoption.unmanage(**how),
    "import_cinderlib": _import_cinderlib,
    "give": _give,
    "rename_backend": lambda service, **how: service.renames.rename(**how),
    "migrate": lambda service, **how: service.moves.migrate(**how),
    "migrate_finish": lambda service, **how: service.moves.finish(**how),
}


def complete(rows: list[dict[str, Any]], things: str) -> list[dict[str, Any]]:
    """Return the rows of an operation on many things, if none of these failed.

    :param rows: each has ``code`` and ``error``, which are None unless it failed.
    :param things: a word for the rows, such as ``findings``.
    :raises StorageError: one has failed; with its code, and with all rows in its ``details``.
    """
    failed = [row for row in rows if row["code"]]
    if not failed:
        return rows
    texts = "; ".join(f"{row['name'] or row['id']}: {row['error']}" for row in failed)
    raise BY_CODE[failed[0]["code"]](f"{len(failed)} of {len(rows)} {things} failed: {texts}", details={"rows": rows})
