"""Reads the reports of Cinder drivers: one flat dictionary, or one with pools, with numbers or
words for numbers.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from ...errors import UnavailableError
from ...model import BackendStats
from ...providers import Capability

_SECRET = re.compile(r"passw|secret|token|credential|private_key|keyring", re.IGNORECASE)


def stats(name: str, raw: Mapping[str, Any], allocated: float) -> BackendStats:
    """Return a driver's statistics; the capacities of its pools are added up.

    :param raw: the answer of ``get_volume_stats``, with the key ``pools``.
    :param allocated: sum of the sizes of the project's volumes, GiB.
    """
    pools = raw.get("pools") or [raw]
    return BackendStats(
        name=name,
        vendor=str(raw.get("vendor_name") or ""),
        driver_version=str(raw.get("driver_version") or ""),
        protocol=_read_protocol(raw.get("storage_protocol")),
        total_gib=_sum(pool.get("total_capacity_gb") for pool in pools),
        free_gib=_sum(pool.get("free_capacity_gb") for pool in pools),
        allocated_gib=allocated,
        thin=any(_is_true(pool.get("thin_provisioning_support")) for pool in pools),
        raw=_simplify(raw),
    )


def refuse_empty(raw: Mapping[str, Any], doing: str) -> None:
    """Refuse a report without any storage: some drivers go on when they cannot reach their array.

    :param doing: the attempt, for the message.
    :raises UnavailableError: there is no pool, or all of them have a capacity of 0.
    """
    pools = raw.get("pools", [raw])
    if not pools:
        raise UnavailableError(
            f"could not {doing}: its driver found no pool; compare the names of pools in its options with those on the array"
        )
    if all(pool.get("total_capacity_gb") == 0 for pool in pools):
        raise UnavailableError(
            f"could not {doing}: its driver reports a capacity of 0, as some do that cannot reach their array; check address and login"
        )


def protocol(raw: Mapping[str, Any]) -> str:
    """Return the storage protocol in a driver's statistics; empty when it reports none."""
    return _read_protocol(raw.get("storage_protocol"))


def capabilities(driver: Any, raw: Mapping[str, Any]) -> frozenset[Capability]:
    """Return a driver's abilities: by its methods, and by the flags in its statistics."""
    pools = raw.get("pools") or [raw]

    def flag(name: str, default: bool) -> bool:
        return any(_is_true(pool.get(name, raw.get(name, default))) for pool in pools)

    # Cinder hands the specs to every driver; a driver's documentation says which of them it knows.
    found = {Capability.SPECS}
    if _has(driver, "create_snapshot") and _has(driver, "create_volume_from_snapshot"):
        found.add(Capability.SNAPSHOT)
        if _has(driver, "revert_to_snapshot") and not _is_thin_lvm(driver):
            found.add(Capability.REVERT)
    if _has(driver, "create_cloned_volume"):
        found.add(Capability.CLONE)
    if _has(driver, "extend_volume"):
        found.add(Capability.EXTEND)
        # Cinder takes silence for yes here, and for no below.
        if flag("online_extend_support", True):
            found.add(Capability.EXTEND_ONLINE)
    if flag("multiattach", False):
        found.add(Capability.MULTIATTACH)
    if _has(driver, "get_manageable_volumes"):
        found.add(Capability.LIST)
    if _has(driver, "manage_existing") and _has(driver, "manage_existing_get_size"):
        found.add(Capability.MANAGE)
    return frozenset(found)


def _has(driver: Any, method: str) -> bool:
    """Return whether a driver has its own form of a method; those of the base classes only raise
    NotImplementedError, or answer with nothing.
    """
    from cinder.volume import driver as base

    own = getattr(type(driver), method, None)
    return own is not None and own.__module__ != base.__name__


def _is_thin_lvm(driver: Any) -> bool:
    """Return whether this is Cinder's LVM driver, or a subclass, with thin volumes: its method to
    revert refuses those.
    """
    lvm = any(cls.__module__ == "cinder.volume.drivers.lvm" for cls in type(driver).__mro__)
    return lvm and driver.configuration.lvm_type == "thin"


def _read_protocol(value: Any) -> str:
    # Some drivers give all spellings of one protocol.
    return str(value[0] if isinstance(value, list | tuple) and value else value or "")


def _sum(values: Iterable[Any]) -> float | None:
    """Add up; None when a value is 'unknown', 'infinite' or missing."""
    total = 0.0
    for value in values:
        try:
            number = float(value)
        except (TypeError, ValueError):
            return None
        if not 0 <= number < float("inf"):
            return None
        total += number
    return round(total, 2)


def _is_true(value: Any) -> bool:
    return value is True or (isinstance(value, str) and value.strip().lower() in ("true", "<is> true"))


def _simplify(value: Any) -> Any:
    """Return plain data without values whose name looks like a secret's."""
    if isinstance(value, Mapping):
        return {str(key): _simplify(item) for key, item in value.items() if not _SECRET.search(str(key))}
    if isinstance(value, list | tuple | set):
        return [_simplify(item) for item in value]
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        return str(value)
    return value
