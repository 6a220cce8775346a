"""``storage_volume.mounted``: the file system on the volume, mounted now and at every boot."""

from __future__ import annotations

import os
from typing import Any

from .. import validate
from ..consumer.devices import mounts, probe
from ..consumer.filesystems import mkfs, resizefs
from ..consumer.filesystems.fstab import Entry, boot_options, is_own, same
from ..errors import AlreadyExistsError, FailedPreconditionError, InvalidArgumentError
from ..flow import connecting, formatting, growth, mount_points
from ..flow.flow import Flow
from ..model import Volume
from . import dependencies
from .connected import Found, Look, ask, connect_changes, look
from .request import Request
from .run import Run
from .skeleton import Changes, Plan, change
from .volumes import others_behind

DEFAULT_FSTYPE = "ext4"
#: The foretold change of a file system. Its size is known only when it has grown.
GROWS = {"old": "smaller than its device", "new": "as large as its device"}


class Mount:
    """The checked parameters of ``mounted`` beside those of ``connected``.

    :param path: absolute path of the mount point.
    :param fstype: type of file system; None takes any that is there, and makes ext4 where there is
        none.
    :param mkfs_options: list of further options for mkfs.
    :param options: options for mount, as one string or as a list.
    """

    def __init__(self, path: Any, fstype: Any, mkfs_options: Any, options: Any) -> None:
        self.path = _mount_point(path)
        self.fstype = None if fstype is None else validate.name(fstype, "fstype")
        if not isinstance(mkfs_options, list | None) or not all(isinstance(o, str) for o in mkfs_options or ()):
            raise InvalidArgumentError("mkfs_options must be a list of strings, such as ['-m', '0']", field="mkfs_options")
        self.mkfs_options = list(mkfs_options or ())
        mkfs.check(self.fstype or DEFAULT_FSTYPE, self.mkfs_options)
        given = ",".join(options) if isinstance(options, list) and all(isinstance(o, str) for o in options) else options
        if not isinstance(given, str) or not given or not given.isprintable() or " " in given:
            raise InvalidArgumentError(
                "mount_options must be mount options without spaces, such as 'defaults,noatime'", field="mount_options"
            )
        self.options = given


def mounted(flow: Flow, run: Run, request: Request, wanted: Mount) -> Plan:
    """Plan that a volume is attached, has a file system and is mounted, now and at every boot."""
    found = look(flow, run, request)
    changes = dict(found.changes)
    if found.found == Found.ATTACHED:
        changes.update(_compare(flow, request, wanted, found))
    elif _is_occupied(flow, request.name, wanted.path):
        raise FailedPreconditionError(
            f"something else is mounted on {wanted.path}; unmount it or choose another mount point", field="mount"
        )
    else:
        mount_points.check_table(flow, request.name, wanted.path)
        changes["mount"] = change(None, wanted.path)
    if not changes:
        return Plan(f"Volume {request.name!r} is mounted on {wanted.path}.")
    if "mount" in changes:
        dependencies.check_outer_mounts(run, wanted.path)
    created = "created, " if found.found == Found.MISSING else ""
    text = f"Volume {request.name!r} would be {created}mounted on {wanted.path}."
    if "mount" not in changes:
        grows = not changes.keys().isdisjoint({"size", "filesystem"})
        text = f"Volume {request.name!r}, mounted on {wanted.path}, would be {'grown' if grows else 'changed'}."
    return Plan(text, changes, lambda: _apply(flow, request, wanted, found), ask(flow, request, found))


def fill(flow: Flow, device: str, fstype: str, path: str | None) -> Changes:
    """Let a file system fill its device, when it is smaller and can; return the changes.

    :param path: its mount point; None when it is not mounted.
    """
    grown = mount_points.fill(flow, device, fstype, path)
    return {} if grown is None else {"filesystem": change(f"{grown[0] >> 20} MiB", f"{grown[1] >> 20} MiB")}


def _apply(flow: Flow, request: Request, wanted: Mount, found: Look) -> tuple[Changes, str]:
    changes: Changes = {}
    volume, connection = found.volume, None
    if found.changes:
        done = connecting.connect(flow, request.owner, request.name, request.how)
        changes, volume, connection = connect_changes(request.name, done), done.volume, done.connection
    if volume is None:
        raise InvalidArgumentError("the volume is not known", field="name")
    name = request.name
    with flow.consumer.lock(name):
        device = flow.status(name).device
        fstype = _mount(flow, request, wanted, device, volume, changes)
        former = _former_entries(flow, name, wanted)
        if mount_points.set_entry(flow, _entry(flow, name, wanted, fstype, volume), former):
            changes.setdefault("fstab", _entry_change(former, wanted))
        if _may_grow(request, wanted):
            changes |= fill(flow, device, fstype, wanted.path)
        if connection is not None:
            growth.report(flow, volume, connection)
    return changes, f"Volume {name!r} {_outcome(changes)} on {wanted.path}.{others_behind(flow, volume)}"


def _mount(flow: Flow, request: Request, wanted: Mount, device: str, volume: Volume, changes: Changes) -> str:
    """Mount the device unless it is, making a file system where there is none.

    Return the file system's type.
    """
    state = _checked_state(flow, request.name, wanted, device)
    if state.top is not None:
        formatting.end(flow, request.name)
        return state.top.fstype
    fstype = _file_system(flow, request, wanted, device, changes)
    if _may_grow(request, wanted):
        # An ext file system grows unmounted too, and there it needs no more than root.
        changes |= fill(flow, device, fstype, None)
    mount_points.mount(flow, request.name, device, wanted.path, fstype, _options(wanted, fstype, volume, request.read_only))
    changes["mount"] = change(None, wanted.path)
    return fstype


def _file_system(flow: Flow, request: Request, wanted: Mount, device: str, changes: Changes) -> str:
    """Return the type of the file system on a device.

    One is made when the device was read and is empty.
    """
    found = formatting.probe_device(flow, device)
    attached = flow.attachment(request.name)
    cut_off = attached is not None and attached.formatting
    if found.kind == probe.FILESYSTEM and not (cut_off and mkfs.unfinished(device, found)):
        if wanted.fstype is not None and found.fstype != wanted.fstype:
            raise _other_fstype(request.name, found.fstype, str(wanted.fstype))
        if cut_off:
            # The file system was finished, here or by hand, and may hold data since.
            formatting.end(flow, request.name)
        return found.fstype
    if not found.empty and not cut_off:
        raise AlreadyExistsError(f"volume {request.name!r} holds {found}, and is not formatted; empty it by hand if it is not needed")
    if request.read_only:
        raise FailedPreconditionError(f"volume {request.name!r} has no file system, and is connected read-only", field="read_only")
    fstype = wanted.fstype or DEFAULT_FSTYPE
    formatting.make_file_system(flow, request.owner, request.name, fstype, wanted.mkfs_options)
    changes["filesystem"] = change(None, fstype)
    return fstype


def _compare(flow: Flow, request: Request, wanted: Mount, seen: Look) -> Changes:
    """Return the differences between the mount of an attached volume and the request.

    Only reads.
    """
    device = flow.status(request.name).device
    state = _checked_state(flow, request.name, wanted, device)
    mount_points.check_table(flow, request.name, wanted.path)
    if state.top is None:
        return _compare_unmounted(flow, request, wanted, device, seen)
    changes: Changes = {}
    fstype = state.top.fstype
    entry = _entry(flow, request.name, wanted, fstype, seen.volume)
    have = mount_points.entry_at(flow, wanted.path)
    former = _former_entries(flow, request.name, wanted)
    if have is None or former:
        changes["fstab"] = _entry_change(former, wanted)
    if have is not None and have.device == entry.device and have.options != entry.options:
        raise AlreadyExistsError(
            f"{wanted.path} is mounted with the options {have.options}, asked for is {entry.options}; apply storage_volume.unmounted first",
            field="mount_options",
        )
    if _grows(request, wanted, device, fstype, wanted.path, seen):
        # Before the volume grows: a file system that cannot follow would stay behind.
        resizefs.check_growable(fstype)
        changes["filesystem"] = dict(GROWS)
    return changes


def _compare_unmounted(flow: Flow, request: Request, wanted: Mount, device: str, seen: Look) -> Changes:
    found = formatting.probe_device(flow, device)
    if found.kind == probe.FILESYSTEM and wanted.fstype not in (None, found.fstype):
        raise _other_fstype(request.name, found.fstype, str(wanted.fstype))
    changes: Changes = {"mount": change(None, wanted.path)}
    if found.kind == probe.FILESYSTEM and _grows(request, wanted, device, found.fstype, None, seen):
        changes["filesystem"] = dict(GROWS)
    return changes


def _checked_state(flow: Flow, name: str, wanted: Mount, device: str) -> mounts.MountState:
    """Return the state of the mount point, after refusing another mount in its place."""
    state = mounts.state(wanted.path, device)
    if state.top is not None and not state.right:
        text = f"{state.top.source} is mounted on {wanted.path}, not volume {name!r}; unmount it, or choose another mount point"
        raise FailedPreconditionError(text, field="mount")
    elsewhere = [m.path for m in mount_points.live(flow, name) if m.path != os.path.realpath(wanted.path)]
    if elsewhere and state.top is None:
        raise AlreadyExistsError(
            f"volume {name!r} is mounted on {', '.join(elsewhere)}, not on {wanted.path}; unmount it first", field="mount"
        )
    if state.top is not None and wanted.fstype is not None and state.top.fstype != wanted.fstype:
        raise _other_fstype(name, state.top.fstype, str(wanted.fstype))
    if state.right:
        _check_runs(name, wanted.path)
    return state


def _check_runs(name: str, path: str) -> None:
    """Refuse to call a file system mounted that the kernel has stopped.

    The kernel does that when the storage was away for too long.
    """
    try:
        os.stat(path)
    except OSError as error:
        raise FailedPreconditionError(
            f"the file system of volume {name!r} on {path} has stopped ({error.strerror}); the kernel's log says why."
            " Apply storage_volume.unmounted, and then this again"
        ) from None


def _is_occupied(flow: Flow, name: str, path: str) -> bool:
    return mounts.state(path).mounted and not any(m.path == os.path.realpath(path) for m in mount_points.live(flow, name))


def _entry(flow: Flow, name: str, wanted: Mount, fstype: str, volume: Volume | None) -> Entry:
    attached = flow.attachment(name)
    read_only = attached is not None and attached.read_only
    options = boot_options(_options(wanted, fstype, volume, read_only))
    return Entry(device=flow.link(name), mount_point=wanted.path, fstype=fstype, options=options)


def _former_entries(flow: Flow, name: str, wanted: Mount) -> list[Entry]:
    """Return our entries for other mount points, on which the volume is not mounted.

    It was unmounted by hand, and would be back at boot.
    """
    here = {m.path for m in mount_points.live(flow, name)} - {os.path.realpath(wanted.path)}
    others = [e for e in mount_points.entries(flow, name) if is_own(e) and not same(e.mount_point, wanted.path)]
    return [e for e in others if os.path.realpath(e.mount_point) not in here]


def _entry_change(former: list[Entry], wanted: Mount) -> dict[str, Any]:
    return change(", ".join(e.mount_point for e in former) or None, wanted.path)


def _options(wanted: Mount, fstype: str, volume: Volume | None, read_only: bool) -> str:
    options = wanted.options.split(",")
    if fstype == "xfs" and volume is not None and volume.source and "nouuid" not in options:
        # A copy has the UUID of its origin, and XFS mounts no two of one UUID without this.
        options.append("nouuid")
    if read_only and "ro" not in options:
        options.append("ro")
    return ",".join(options)


def _may_grow(request: Request, wanted: Mount) -> bool:
    """Return whether this state may let the file system grow, which writes to it."""
    if not request.resize or request.read_only or "ro" in wanted.options.split(","):
        return False
    top = mounts.state(wanted.path).top
    return top is None or not top.read_only


def _grows(request: Request, wanted: Mount, device: str, fstype: str, path: str | None, seen: Look) -> bool:
    """Return whether the file system on an attached device is going to grow.

    It can grow now, or as soon as its device has grown.
    """
    if not _may_grow(request, wanted):
        return False
    follows = seen.lags and fstype in resizefs.GROW_MOUNTED
    return follows or resizefs.can_grow(device, fstype, path)


def _mount_point(value: Any) -> str:
    if value is None:
        raise InvalidArgumentError("mount is missing; give the path of the mount point", field="mount")
    if not isinstance(value, str) or not value.startswith("/") or not value.isprintable():
        raise InvalidArgumentError(f"mount must be an absolute path, not {validate.shown(value)}", field="mount")
    path = os.path.normpath(value)
    if os.path.lexists(path) and not os.path.isdir(path):
        raise InvalidArgumentError(f"mount {path!r} exists and is not a directory", field="mount")
    if path.lstrip("/") == "":
        raise InvalidArgumentError("mount may not be /", field="mount")
    return "/" + path.lstrip("/")


def _other_fstype(name: str, have: str, want: str) -> AlreadyExistsError:
    return AlreadyExistsError(f"volume {name!r} has a file system of type {have}, not {want}; it is never formatted again", field="fstype")


def _outcome(changes: Changes) -> str:
    if "mount" in changes:
        made = changes.get("filesystem")
        return f"was {'formatted with ' + str(made['new']) + ' and ' if made and made['old'] is None else ''}mounted"
    if "size" in changes or "filesystem" in changes:
        return "was grown and is mounted"
    return "was changed and is mounted" if changes else "is mounted"
