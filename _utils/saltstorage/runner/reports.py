"""What the runner shows of the catalog's records: units in the names, times that a person can read, nothing empty."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any

from ..model import BackendStats, Connection, Snapshot, Volume
from ..spec import attributes_of


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
    return _filled(
        {
            "name": record.name,
            "owner": record.owner,
            "size_gib": record.size,
            "backend": record.backend,
            "state": record.state,
            "hosts": hosts,
            "type": record.type,
            **{name: value or None for name, value in attributes_of(record).items()},
            "source": dict(record.source) if record.source else None,
            "error": record.error,
            "id": record.id,
            "created": iso_time(record.created),
        }
    )


def snapshot(record: Snapshot) -> dict[str, Any]:
    """Return a snapshot."""
    return _filled(
        {
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
    )


def connection(record: Connection) -> dict[str, Any]:
    """Return a connection."""
    return _filled(
        {
            "volume": record.volume,
            "owner": record.owner,
            "host": record.host,
            "size_gib": record.size,
            "state": record.state,
            "read_only": record.read_only,
            "id": record.id,
            "created": iso_time(record.created),
        }
    )


def stats(record: BackendStats) -> dict[str, Any]:
    """Return a backend's statistics."""
    return _filled({key: value for key, value in record.to_wire().items() if key != "raw"})


def finding(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a look at the backends found."""
    return _filled({("size_gib" if key == "size" else key): value for key, value in found.items()})


def _filled(data: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out what says nothing; False and 0 say something."""
    return {key: value for key, value in data.items() if value is not None and value != "" and value != [] and value != {}}
