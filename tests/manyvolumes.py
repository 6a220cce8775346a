"""Fills a catalog with more volumes than a test could create: rows straight in its tables, as the
service writes them.
"""

from __future__ import annotations

import dataclasses
import itertools
import uuid
from collections.abc import Iterable, Iterator

from saltstorage.controller.catalog import schema
from saltstorage.controller.catalog.catalog import Catalog
from saltstorage.model import Connection, Record, Snapshot, Volume

#: The connector that os-brick reports for an ordinary host.
CONNECTOR = {
    "platform": "x86_64",
    "os_type": "linux",
    "ip": "192.0.2.10",
    "host": "db1.example.com",
    "multipath": True,
    "enforce_multipath": True,
    "initiator": "iqn.1994-05.com.redhat:5a1f0c7e3b22",
    "do_local_attach": False,
    "nvme_hostid": "0f3d1f5e-6b4b-4f8e-9a53-0b8a7a0c9d11",
    "nqn": "nqn.2014-08.org.nvmexpress:uuid:0f3d1f5e-6b4b-4f8e-9a53-0b8a7a0c9d11",
    "found_dsc": "",
    "uuid": "7c8e4a3e-40cf-4a5d-8e8d-3f5d0e1c2b3a",
    "system uuid": "4c4c4544-0042-3510-8054-b4c04f4e3332",
}
_BATCH = 5000


def fill(catalog: Catalog, owner: str, count: int, *, backend: str = "local", prefix: str = "v", snapshots: int = 0) -> None:
    """Give ``owner`` volumes ``v00000``, ``v00001`` …, each connected to it (shared ones to a
    host of their own).

    :param snapshots: snapshots of each.
    """
    for batch in _batches(_records(owner, count, backend, prefix, snapshots)):
        with catalog.engine.begin() as connection:
            for cls, table in ((Volume, schema.volumes), (Snapshot, schema.snapshots), (Connection, schema.connections)):
                if rows := [_row(record) for record in batch if isinstance(record, cls)]:
                    connection.execute(table.insert(), rows)


def _records(owner: str, count: int, backend: str, prefix: str, snapshots: int) -> Iterator[Record]:
    for number in range(count):
        volume = Volume(
            id=str(uuid.uuid4()), owner=owner, name=f"{prefix}{number:05}", backend=backend, size=10, formatted=True, created=1.7e9 + number
        )
        yield volume
        host = f"host{number}" if owner == "shared" else owner
        of = {"owner": owner, "volume_id": volume.id, "volume": volume.name}
        yield Connection(id=str(uuid.uuid4()), host=host, size=10, created=1.7e9 + number, connector=CONNECTOR, **of)
        for n in range(snapshots):
            yield Snapshot(id=str(uuid.uuid4()), name=f"{volume.name}-{n}", backend=backend, size=10, created=1.7e9 + n, **of)


def _row(record: Record) -> dict[str, object]:
    return {field.name: getattr(record, field.name) for field in dataclasses.fields(record)}


def _batches(records: Iterable[Record]) -> Iterator[list[Record]]:
    iterator = iter(records)
    while batch := list(itertools.islice(iterator, _BATCH)):
        yield batch
