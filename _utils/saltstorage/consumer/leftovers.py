"""Leftovers of volumes on this host that no attachment record explains.

They come from crashes, work by hand and lost records.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator
from dataclasses import dataclass

from . import presence
from .connectors import iscsi
from .devices import block, loop, luks
from .filesystems.fstab import Fstab
from .host.config import ConsumerConfig
from .host.records import AttachmentRecord


@dataclass(frozen=True)
class Leftover:
    """One leftover."""

    kind: str  #: ``session``, ``node``, ``loop``, ``mapping``, ``link`` or ``fstab``.
    name: str  #: Its name on the host.
    remedy: str  #: How to remove it, once it is certain that nobody needs it.


def find(config: ConsumerConfig, records: list[AttachmentRecord]) -> list[Leftover]:
    """Return the leftovers; nothing is changed.

    All sessions and node records of iSCSI count, also those that others made: the name of a target
    does not say who uses it.

    :param records: all records of this host, none of them damaged.
    """
    tag = loop.tag(config.state_dir)
    return [
        *_iscsi(records),
        *_mappings(records, tag),
        *_loops(records, tag),
        *_links(config, records),
        *_fstab(config, records),
    ]


def _iscsi(records: list[AttachmentRecord]) -> Iterator[Leftover]:
    known: set[str] = set()
    for record in records:
        data = (record.connection_info or {}).get("data", {})
        known.update(target for target in (data.get("target_iqn"), *data.get("target_iqns", ())) if target)
    for kind, verb in (("session", "--logout"), ("node", "-o delete")):
        for portal, target in sorted(iscsi.portals_and_targets(kind)):
            if target not in known:
                yield Leftover(kind, f"{target} at {portal}", f"iscsiadm -m node -T {target} -p {portal} {verb}")


def _mappings(records: list[AttachmentRecord], tag: str) -> Iterator[Leftover]:
    known = {luks.name(record.volume_id, tag) for record in records}
    for path in sorted(glob.glob("/sys/block/dm-*/dm/name")):
        with open(path, encoding="utf-8", errors="replace") as file:
            name = file.read().rstrip("\n")
        if luks.is_own(name, tag) and name not in known:
            yield Leftover("mapping", f"/dev/mapper/{name}", f"cryptsetup close {name}")


def _loops(records: list[AttachmentRecord], tag: str) -> Iterator[Leftover]:
    known = {device for record in records for device in presence.current(record, tag)}
    for path, _ in sorted(loop.backing_files()):
        status = loop.status(path)
        if status is not None and status.tag == tag and path not in known:
            yield Leftover("loop", f"{path} over {status.backing_file}", f"losetup --detach {path}")


def _links(config: ConsumerConfig, records: list[AttachmentRecord]) -> Iterator[Leftover]:
    known = {record.name for record in records}
    names = sorted(os.listdir(config.device_dir)) if os.path.isdir(config.device_dir) else []
    for name in names:
        path = os.path.join(config.device_dir, name)
        if name not in known and os.path.islink(path):
            leads = os.path.realpath(path)
            yield Leftover("link", f"{path} to {leads}{'' if block.is_block(leads) else ', which is not there'}", f"remove {path}")


def _fstab(config: ConsumerConfig, records: list[AttachmentRecord]) -> Iterator[Leftover]:
    known = {os.path.join(config.device_dir, record.name) for record in records}
    for entry in Fstab(config.fstab).all():
        if entry.device.startswith(f"{config.device_dir}/") and entry.device not in known:
            yield Leftover("fstab", f"{entry.device} on {entry.mount_point}", f"remove the line from {config.fstab}")
