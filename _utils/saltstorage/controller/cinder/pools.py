"""The pools in the report of a Cinder driver, with the room that Cinder's scheduler would see.

Here is no scheduler, so nobody else looks at ``reserved_percentage`` and
``max_over_subscription_ratio``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ...model import Pool

#: The values that drivers report where they cannot say how much there is.
_UNKNOWN = ("infinite", "unknown")


def pools(raw: Mapping[str, Any], configuration: Any, allocated: Callable[[str], float]) -> list[Pool]:
    """Return the pools of a backend.

    :param raw: the answer of ``get_volume_stats``, with the key ``pools``.
    :param configuration: the driver's options.
    :param allocated: returns the GiB of the project's volumes in a pool, for drivers that do not
        report what is provisioned; Cinder's manager adds the same.
    """
    shared = {key: value for key, value in raw.items() if key != "pools"}
    return [_pool({**shared, **pool}, configuration, allocated) for pool in raw.get("pools") or ()]


def _pool(report: Mapping[str, Any], configuration: Any, allocated: Callable[[str], float]) -> Pool:
    from cinder.scheduler import sched_utils

    total, free = (_number(report.get(key)) for key in ("total_capacity_gb", "free_capacity_gb"))
    reserved = _number(report.get("reserved_percentage", configuration.safe_get("reserved_percentage"))) or 0.0
    thin = _flag(report.get("thin_provisioning_support"))
    provisioned = _number(report.get("provisioned_capacity_gb"))
    if provisioned is None:
        provisioned = float(allocated(str(report.get("pool_name") or "")))
    ratio = 1.0
    if total is not None and free is not None:
        known = {**report, "total_capacity_gb": total, "free_capacity_gb": free, "provisioned_capacity_gb": provisioned}
        own = configuration.safe_get("max_over_subscription_ratio") or sched_utils.INITIAL_AUTO_MOSR
        ratio = float(sched_utils.calculate_max_over_subscription_ratio({**known, "thin_provisioning_support": thin}, own))
    return Pool(
        name=str(report.get("pool_name") or ""),
        total_gib=total,
        free_gib=free,
        provisioned_gib=provisioned,
        reserved_percentage=reserved,
        max_over_subscription_ratio=ratio,
        thin=thin,
    )


def _number(value: Any) -> float | None:
    """Return a number; None for a word, an infinite number, or nothing."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if 0 <= number < float("inf") else None


def _flag(value: Any) -> bool:
    return value is True or (isinstance(value, str) and value.strip().lower() in ("true", "<is> true"))
