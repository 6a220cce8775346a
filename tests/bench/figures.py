"""Figures: their statistics, the targets, the table and the JSON."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


def spread(values: Sequence[float], digits: int = 4) -> dict[str, Any]:
    """Return minimum, median, maximum and number of values.

    >>> spread([3.0, 1.0, 2.0])
    {'min': 1.0, 'median': 2.0, 'max': 3.0, 'count': 3}
    """
    return {
        "min": round(min(values), digits),
        "median": round(statistics.median(values), digits),
        "max": round(max(values), digits),
        "count": len(values),
    }


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> dict[str, float]:
    """Return the ratio of the medians, and the median and the quartiles of the ratios pair by
    pair.

    Pairs were measured right after each other, so other work of the machine weighs on both.
    """
    pairs = [a / b for a, b in zip(ours, theirs, strict=True)]
    low, middle, high = statistics.quantiles(pairs, n=4) if len(pairs) > 1 else (pairs[0],) * 3
    return {
        "of_medians": round(statistics.median(ours) / statistics.median(theirs), 3),
        "of_minima": round(min(ours) / min(theirs), 3),
        "paired_median": round(middle, 3),
        "paired_quartiles": [round(low, 3), round(high, 3)],  # type: ignore[dict-item]
    }


@dataclass(frozen=True)
class Target:
    """A figure that is to be reached.

    :ivar name: name of the measured quantity.
    :ivar value: measured value.
    :ivar limit: largest value that meets the target.
    :ivar unit: of both.
    """

    name: str
    value: float
    limit: float
    unit: str = ""

    def to_wire(self) -> dict[str, Any]:
        """Return it for the JSON."""
        return {"name": self.name, "value": self.value, "limit": self.limit, "unit": self.unit, "met": self.met}

    @property
    def met(self) -> bool:
        """Whether it was reached."""
        return self.value <= self.limit

    def __str__(self) -> str:
        return f"{'met   ' if self.met else 'MISSED'}  {self.name}: {self.value:g}{self.unit}, at most {self.limit:g}{self.unit}"


def line(label: str, found: dict[str, Any], *, scale: float = 1.0, unit: str = "s") -> str:
    """Return a row of the table for an answer of :func:`spread`."""
    values = "".join(f"{found[key] * scale:>11.{1 if scale > 1 else 2}f}" for key in ("min", "median", "max"))
    return f"  {label:<58}{values} {unit:<4}{found['count']:>5}"


HEADING = f"  {'':<58}{'min':>11}{'median':>11}{'max':>11} {'':<4}{'count':>5}"
