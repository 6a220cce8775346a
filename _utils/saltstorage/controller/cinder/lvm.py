"""Cinder's LVM driver, made to finish interrupted work, and to list while others are at work.

``lvextend`` fails when the logical volume has the size already. So an extension failed for ever
when it was repeated after the controller was killed, or after the target did not learn the new
size (seen with Cinder 29).

To set a thick volume back, LVM merges the snapshot into it; the snapshot is then gone, and Cinder
makes it anew. After an interruption between the two, a repetition found nothing to merge, for
ever.

To list, Cinder asks for each logical volume by its name, and fails when a volume was deleted since
it asked for the names. It takes the snapshots of thin volumes for volumes, and an unused pool for
a volume that can be taken over, which would rename the pool.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from cinder import exception
from cinder.volume.drivers import lvm

#: The start of the names of Cinder's snapshots: LVM keeps ``snapshot`` for itself.
_SNAPSHOT = "_snapshot-"


class Report:
    """One command's report of the logical volumes of a group, with the methods of Cinder's group.

    :param group: Cinder's ``LVM``.
    """

    def __init__(self, group: Any) -> None:
        columns = ["--noheadings", "--unit=g", "--nosuffix", "--separator=|", "-o", "lv_name,lv_size,lv_attr,origin,lv_tags"]
        found, _ = group._run_lvm_command([*group.LVM_CMD_PREFIX, "lvs", *columns, group.vg_name])
        rows = (line.strip().split("|") for line in str(found).splitlines() if line.strip())
        self._rows: dict[str, list[str]] = {name: rest for name, *rest in rows}

    def has(self, name: str) -> bool:
        """Return whether there is such a volume or snapshot; a snapshot that is being merged no
        longer counts.
        """
        return name in self._rows

    def has_tag(self, name: str, tag: str) -> bool:
        """Return whether a volume has a tag."""
        return tag in self._rows[name][3].split(",")

    def get_volumes(self) -> list[dict[str, str]]:
        """Return names and sizes in GiB."""
        return [{"name": name, "size": size} for name, (size, *_) in self._rows.items()]

    def lv_is_snapshot(self, name: str) -> bool:
        """Return whether it is a snapshot. Only its name tells a thin snapshot from a thin volume
        that was made from another.
        """
        return name.startswith(_SNAPSHOT) or self._rows[name][1].startswith("s")

    def lv_is_open(self, name: str) -> bool:
        """Return whether a process has its device open, or it is a pool, whose purpose is to be
        used.
        """
        return self._rows[name][1][5] == "o" or self.is_pool(name)

    def is_pool(self, name: str) -> bool:
        """Return whether thin volumes are made in it."""
        return self._rows[name][1].startswith("t")

    def lv_get_origin(self, name: str) -> str | None:
        """Return the name of the volume that it is a snapshot of."""
        return self._rows[name][2] or None


class LVMVolumeDriver(lvm.LVMVolumeDriver):
    """Extends a logical volume only when it is too small, and tells its target either way; lists a
    single moment.
    """

    def _get_manageable_resource_info(self, *args: Any) -> list[dict[str, Any]]:
        """List the volumes that can be taken over, by one report."""
        # All threads share the group, so only a driver of this call's own may answer from the
        # report.
        at_one_moment = copy.copy(self)
        at_one_moment.vg = Report(self.vg)
        return super(LVMVolumeDriver, at_one_moment)._get_manageable_resource_info(*args)  # type: ignore[no-any-return]

    def manage_existing_get_size(self, volume: Any, existing_ref: Mapping[str, Any]) -> int:
        """Return the size in GiB of a volume that will be taken over, and so renamed; refuse
        anything that must keep its name.

        :raises cinder.exception.ManageExistingInvalidReference: it does not exist, or is a
            snapshot or a pool.
        """
        size = int(super().manage_existing_get_size(volume, existing_ref))
        name = existing_ref["source-name"]
        report = Report(self.vg)
        if report.is_pool(name):
            reason = "it is a pool of thin volumes"
        elif report.lv_is_snapshot(name):
            reason = "it is a snapshot; rename it first if it is to be a volume and nothing else knows it"
        else:
            return size
        raise exception.ManageExistingInvalidReference(existing_ref=name, reason=reason)

    def revert_to_snapshot(self, context: Any, volume: Any, snapshot: Any) -> None:
        """Set a thick volume back; after a merge that was cut off, only make the snapshot anew."""
        name, tag = self._escape_snapshot(snapshot.name), f"storage.reverting.{snapshot.id}"
        report = Report(self.vg)
        if report.has(name):
            # Without the tag, a deleted snapshot would pass for a merged one.
            self._lvm("lvchange", "--addtag", tag, volume.name)
            super().revert_to_snapshot(context, volume, snapshot)
        elif report.has_tag(volume.name, tag):
            # A merge that was cut off goes on when the volume is activated.
            self.vg.deactivate_lv(volume.name)
            self.vg.activate_lv(volume.name)
            self.create_snapshot(snapshot)
        else:
            raise exception.SnapshotNotFound(snapshot_id=snapshot.id)
        self._lvm("lvchange", "--deltag", tag, volume.name)

    def _lvm(self, command: str, option: str, value: str, name: str) -> None:
        self.vg._run_lvm_command([*self.vg.LVM_CMD_PREFIX, command, option, value, f"{self.vg.vg_name}/{name}"])

    def extend_volume(self, volume: Any, new_size: int) -> None:
        """Grow the logical volume unless it has the size already, and have the target show it."""
        found = self.vg.get_volume(volume.name)
        # In GiB with two decimals, perhaps rounded up; a volume that is too small lacks about a
        # GiB at least.
        if found is None or float(found["size"]) < new_size:
            super().extend_volume(volume, new_size)
            return
        # A thick volume with snapshots is inactive while it is extended.
        self.vg.activate_lv(volume.name)
        self.target_driver.extend_target(volume)
