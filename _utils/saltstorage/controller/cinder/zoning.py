"""Fibre Channel zones, made and removed by Cinder's zone manager.

Drivers for Fibre Channel call it by themselves, when a host gets its first volume of an array and
when it loses its last one. Cinder reads its configuration from ``cinder.conf``; here it comes from
``storage:zoning``.

Two things are done otherwise than in Cinder. Its zone manager is one object that each call sets up
anew, during which a call of another thread does nothing and says nothing; here, it is made once.
And where it cannot be used, a connection that needs a zone fails.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Mapping
from typing import Any, NoReturn

from ...errors import FailedPreconditionError, InvalidArgumentError, StorageError
from ...providers.initiators import kind_of_protocol
from . import bridge, logs
from .errors import map_errors

WHERE = "storage:zoning"
GROUP = "fc-zone-manager"
#: Before the name of a fabric, whose options are a group of oslo.config beside others.
_FABRIC = "fabric_"
_CISCO = "cinder.zonemanager.drivers.cisco"
#: The lookup service for drivers that are not Brocade's, which Cinder takes by default.
_LOOKUPS = {f"{_CISCO}.cisco_fc_zone_driver.CiscoFCZoneDriver": f"{_CISCO}.cisco_fc_san_lookup_service.CiscoFCSanLookupService"}
_BROCADE = "cinder.zonemanager.drivers.brocade"

_lock = threading.Lock()
_used: Mapping[str, Any] | None = None
_fault: StorageError | None = None


def use(zoning: Mapping[str, Any]) -> None:
    """Set the zone manager up as configured, or switch it off.

    A fault is kept for :func:`check`, since backends of other protocols need no zones.

    :param zoning: the options of Cinder's section ``[fc-zone-manager]``, and ``fabrics``: by name,
        the options of each fabric's section. Empty: no zones are managed.
    """
    global _used, _fault
    with _lock:
        if _used == zoning:
            return
        _fault = None
        try:
            with map_errors(f"use {WHERE}", default=FailedPreconditionError):
                _set_up(zoning)
        except StorageError as error:
            _fault = error
            _replace(functools.partial(_refuse, error))
        _used = dict(zoning)


def check(protocol: str) -> None:
    """Raise the fault of the configuration, for a backend that may need zones.

    :param protocol: the backend's storage protocol.
    :raises StorageError: the zone manager cannot be used.
    """
    if _fault is not None and kind_of_protocol(protocol) in (None, "fibre_channel"):
        raise _fault


def _set_up(zoning: Mapping[str, Any]) -> None:
    from cinder.volume import manager
    from oslo_config import cfg

    cfg.CONF.register_opts(manager.volume_manager_opts)
    _forget(_used or {})
    if not zoning:
        cfg.CONF.clear_override("zoning_mode")
        _replace(lambda: None)
        return
    from cinder.zonemanager import fc_zone_manager

    own = {option.dest: option for option in fc_zone_manager.zone_manager_opts if option.dest != "fc_fabric_names"}
    options = {key: value for key, value in zoning.items() if key != "fabrics"}
    path = str(options.get("zone_driver") or own["zone_driver"].default)
    driver = _find(path)
    of_fabrics = {option.dest: option for option in _fabric_options(driver)}
    if path in _LOOKUPS:
        options.setdefault("fc_san_lookup_service", _LOOKUPS[path])
    _set(GROUP, options, own, WHERE)
    fabrics = {f"{_FABRIC}{name}": (f"{WHERE}:fabrics:{name}", given) for name, given in zoning["fabrics"].items()}
    cfg.CONF.set_override("fc_fabric_names", ",".join(fabrics), GROUP)
    for group, (where, given) in fabrics.items():
        _set(group, given, of_fabrics, where)
        _check_fabric(group, where, of_fabrics)
    if not getattr(driver, "SUPPORTED", True) and not cfg.CONF[GROUP].enable_unsupported_driver:
        raise FailedPreconditionError(
            f"{WHERE}: Cinder marks {driver.__name__} as unsupported, since its vendor does not test it; "
            "set enable_unsupported_driver: true there to use it all the same",
            field=f"{WHERE}:enable_unsupported_driver",
        )
    cfg.CONF.set_override("zoning_mode", "fabric")
    made = fc_zone_manager.ZoneManager()
    _replace(lambda: made)


def _find(path: str) -> type[Any]:
    module, _, name = path.rpartition(".")
    try:
        found = getattr(bridge.import_driver_module(module), name, None)
    except (ModuleNotFoundError, ValueError):
        found = None
    if not isinstance(found, type) or not hasattr(found, "add_connection"):
        raise InvalidArgumentError(
            f"{WHERE}:zone_driver {path!r} is no zone driver; Cinder has "
            f"{_BROCADE}.brcd_fc_zone_driver.BrcdFCZoneDriver and {next(iter(_LOOKUPS))}",
            field=f"{WHERE}:zone_driver",
        )
    return found


def _fabric_options(driver: type[Any]) -> list[Any]:
    """Return the definitions of a fabric's options. Cinder's two drivers declare others too, or
    others instead.
    """
    if driver.__module__.startswith(_CISCO):
        return list(bridge.import_driver_module(f"{_CISCO}.cisco_fabric_opts").cisco_zone_opts)
    if driver.__module__.startswith(_BROCADE):
        return list(bridge.import_driver_module(f"{_BROCADE}.brcd_fabric_opts").brcd_zone_opts)
    return list(driver.get_driver_options())


def _set(group: str, given: Mapping[str, Any], known: Mapping[str, Any], where: str) -> None:
    from oslo_config import cfg

    cfg.CONF.register_opts(known.values(), group=group)
    # Defaults too: Cinder takes others for the same group, those of backends.
    for name, value in {**{option.dest: option.default for option in known.values()}, **given}.items():
        if name not in known:
            raise InvalidArgumentError(f"{where} has no option {name!r}; known: {', '.join(sorted(known))}", field=f"{where}:{name}")
        secret = known[name].secret
        if secret and value:
            logs.add_secret(value)
        try:
            cfg.CONF.set_override(name, value, group)
        except (ValueError, TypeError) as error:
            shown = "" if secret else f": {logs.mask(str(error))}"
            raise InvalidArgumentError(f"{where}:{name} has a wrong value{shown}", field=f"{where}:{name}") from None


def _check_fabric(group: str, where: str, known: Mapping[str, Any]) -> None:
    """Refuse what fails only at the first connection: options that a fabric lacks, and the
    protocol that Cinder's driver has a fault in.
    """
    from oslo_config import cfg

    values = cfg.CONF[group]
    missing = [option for option in known if option.endswith(("_address", "_user", "_password", "_vsan")) and not values[option]]
    if missing:
        raise InvalidArgumentError(f"{where} lacks {', '.join(missing)}", field=f"{where}:{missing[0]}")
    if "fc_southbound_protocol" in known and values.fc_southbound_protocol.startswith("REST_"):
        raise InvalidArgumentError(
            f"{where}:fc_southbound_protocol must be SSH, HTTP or HTTPS: over REST, Cinder's default, its driver fails to make zones",
            field=f"{where}:fc_southbound_protocol",
        )


def _forget(zoning: Mapping[str, Any]) -> None:
    from oslo_config import cfg

    for group in (GROUP, *(f"{_FABRIC}{name}" for name in zoning.get("fabrics", ()))):
        if group in cfg.CONF:
            for name in list(cfg.CONF[group]):
                cfg.CONF.clear_override(name, group=group)


def _replace(make: Any) -> None:
    """Let drivers get the zone manager from a function."""
    from cinder.zonemanager import utils

    utils.create_zone_manager = make


def _refuse(fault: StorageError) -> NoReturn:
    raise fault
