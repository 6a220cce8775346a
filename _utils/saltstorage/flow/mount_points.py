"""The mount points of a volume on this host: mounts, and entries in the table of file systems."""

from __future__ import annotations

import os
from collections.abc import Collection

from ..consumer.devices import mounts
from ..consumer.filesystems import mounting, resizefs
from ..consumer.filesystems.fstab import Entry
from ..errors import FailedPreconditionError
from .flow import Flow


def live(flow: Flow, name: str) -> list[mounts.Mount]:
    """Return the mounts of the file system on a volume, by whomever they were made."""
    device = flow.consumer.mountable(name)
    return mounts.of_device(device) if device and os.path.exists(device) else []


def writable(flow: Flow, name: str) -> list[mounts.Mount]:
    """Return the mount by which the file system on an attached volume can be grown.

    None when it is not mounted for writing.
    """
    attached = flow.attachment(name)
    if attached is None or attached.read_only:
        return []
    found = [m for m in live(flow, name) if mounts.state(m.path).top == m]
    return [m for m in found if not m.read_only][:1]


def entries(flow: Flow, name: str) -> list[Entry]:
    """Return the entries of a volume in the table of file systems: made by ``mounted``."""
    return flow.consumer.fstab.of_device(flow.link(name))


def own(flow: Flow, name: str) -> set[str]:
    """Return the paths on which ``mounted`` mounted a volume."""
    return {os.path.realpath(entry.mount_point) for entry in entries(flow, name)}


def entry_at(flow: Flow, path: str) -> Entry | None:
    """Return the entry of a mount point in the table of file systems, of any device."""
    return flow.consumer.fstab.find(path)


def set_entry(flow: Flow, entry: Entry, former: Collection[Entry] = ()) -> bool:
    """Write an entry into the table of file systems, in place of some former ones.

    Return whether the table changed.
    """
    return flow.consumer.fstab.set(entry, former)


def remove_entries(flow: Flow, found: Collection[Entry]) -> None:
    """Remove entries from the table of file systems."""
    for entry in found:
        flow.consumer.fstab.remove(entry.mount_point, entry.device)


def check_table(flow: Flow, name: str, path: str) -> None:
    """Refuse a mount point that the table of file systems gives to another device, and a table that
    lacks the entry and cannot be written.
    """
    have = entry_at(flow, path)
    if have is None:
        flow.consumer.fstab.check_writable()
    if have is not None and have.device != flow.link(name):
        table = flow.consumer.fstab.path
        text = f"{table} mounts {have.device} on {path}; remove that line, or choose another mount point"
        raise FailedPreconditionError(text, field="mount")


def refuse_in_use(flow: Flow, name: str) -> None:
    """Raise FailedPreconditionError when a volume has users; they are named.

    Our own mounts are no users, but processes on them are.
    """
    ours = own(flow, name)
    found = [str(holder) for holder in flow.consumer.holders(name) if holder.path not in ours]
    found += [user for m in live(flow, name) if m.path in ours for user in mounting.users(m.path)]
    if found:
        raise FailedPreconditionError(f"volume {name!r} is in use: {'; '.join(dict.fromkeys(found))}")


def mount(flow: Flow, name: str, device: str, path: str, fstype: str, options: str) -> None:
    """Mount the device of a volume on a path, which is created when it is missing."""
    flow.consumer.add_mount_point(name, path)
    mounting.mount(device, path, fstype, options, timeout=flow.consumer.config.step_timeout)


def unmount(flow: Flow, name: str, paths: list[str]) -> None:
    """Unmount a volume from some paths.

    Its entries in the table of file systems and the directories that were made for it are removed
    too.
    """
    with flow.consumer.lock(name):
        # Stacked mounts come off in the reverse order.
        for path in reversed(paths):
            top = mounts.state(path).top
            if top is None:
                continue  # a copy, in a shared bind mount, that went with another
            if top not in live(flow, name):
                raise FailedPreconditionError(f"something else is mounted over {path}; unmount that first")
            mounting.unmount(path, timeout=flow.consumer.config.format_timeout)
        remove_entries(flow, entries(flow, name))
        flow.consumer.remove_mount_points(name)


def unmount_own(flow: Flow, name: str) -> list[str]:
    """Undo what ``mounted`` did, and nothing that somebody else mounted; return the paths."""
    ours = own(flow, name)
    paths = [m.path for m in live(flow, name) if m.path in ours]
    unmount(flow, name, paths)
    return paths


def fill(flow: Flow, device: str, fstype: str, path: str | None) -> tuple[int, int] | None:
    """Let a file system fill its device when it is smaller and can.

    Return the bytes that it had and has, None when it is full.

    :param path: its mount point; None when it is not mounted.
    """
    if not resizefs.can_grow(device, fstype, path):
        return None
    before, _ = resizefs.size(device, fstype, path)
    resizefs.grow(device, fstype, path, timeout=flow.consumer.config.format_timeout)
    after, _ = resizefs.size(device, fstype, path)
    return before, after
