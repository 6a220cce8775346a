"""The rows in which the runner shows the catalog's records: units in the names, and times that a
person can read.

All rows of a list have the same keys, also for empty values: Salt's outputter ``table`` takes its
headings from the first row.
"""

from __future__ import annotations

import dataclasses
import datetime
import time
from collections.abc import Mapping
from typing import Any

from ..model import BackendStats, Connection, Initiator, Snapshot, Volume
from ..spec import attributes_of
from .admin.check import Finding


def backend(found: Mapping[str, Any], now: float | None = None) -> dict[str, Any]:
    """Return a backend, from :meth:`.Service.backends`, as people see it.

    :param now: seconds since the epoch; default now.
    """
    checked = found["checked"]
    age = None if checked is None else max(0, round((time.time() if now is None else now) - checked))
    return {**found, "checked": iso_time(checked), "age_seconds": age}


def initiator(found: Initiator) -> dict[str, Any]:
    """Return an initiator as people see it."""
    return {"minion": found.minion, "kind": found.kind, "value": found.value, "created": iso_time(found.created)}


def iso_time(seconds: float | None) -> str | None:
    """Return a time in ISO 8601, UTC.

    >>> iso_time(0.0)
    '1970-01-01T00:00:00Z'
    """
    if seconds is None:
        return None
    return datetime.datetime.fromtimestamp(int(seconds), datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def volume(record: Volume, hosts: list[str]) -> dict[str, Any]:
    """Return a volume and the hosts that it is connected to."""
    return {
        "name": record.name,
        "owner": record.owner,
        "size_gib": record.size,
        "backend": record.backend,
        "state": record.state,
        "hosts": hosts,
        "type": record.type,
        **attributes_of(record),
        "source": dict(record.source) if record.source else None,
        "error": record.error,
        "id": record.id,
        "created": iso_time(record.created),
    }


def snapshot(record: Snapshot) -> dict[str, Any]:
    """Return a snapshot."""
    return {
        "name": record.name,
        "owner": record.owner,
        "volume": record.volume,
        "size_gib": record.size,
        "backend": record.backend,
        "state": record.state,
        "error": record.error,
        "frozen": record.frozen,
        "series": record.series,
        "id": record.id,
        "created": iso_time(record.created),
    }


def connection(record: Connection) -> dict[str, Any]:
    """Return a connection."""
    return {
        "volume": record.volume,
        "owner": record.owner,
        "host": record.host,
        "size_gib": record.size,
        "state": record.state,
        "read_only": record.read_only,
        "id": record.id,
        "created": iso_time(record.created),
    }


def stats(record: BackendStats) -> dict[str, Any]:
    """Return a backend's statistics."""
    return {key: value for key, value in record.to_wire().items() if key != "raw"}


def finding(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return a finding of a check.

    :param found: the data from :meth:`.Finding.to_wire`, which leaves out empty values.
    """
    row = {**dataclasses.asdict(Finding(kind="", what="", text="")), **found}
    return {("size_gib" if key == "size" else key): value for key, value in row.items()}


def mended(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return a finding and its outcome: ``done``, and ``error`` and ``code`` (both None unless
    mending it failed).
    """
    return finding({"error": None, "code": None, **found})


def manageable(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return a volume on a backend that can perhaps be taken over."""
    return {
        "reference": found["reference"],
        "size_gib": found["size"],
        "adoptable": found["adoptable"],
        "reason": found["reason"],
        "id": found["id"],
    }


def imported(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return a volume of another cinderlib's database, and its outcome."""
    return {
        "id": found["id"],
        "name": found["name"],
        "size_gib": found["size"],
        "snapshots": found["snapshots"],
        "done": found["done"],
        "reason": found.get("reason", ""),
        "error": found.get("error"),
        "code": found.get("code"),
    }
