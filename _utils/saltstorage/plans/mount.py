"""``storage_volume.mounted`` and ``unmounted``: the file system on the volume."""

from __future__ import annotations

import os
from typing import Any

from .. import validate
from ..consumer.devices import mounts, probe
from ..consumer.filesystems import mkfs, mounting, resizefs
from ..consumer.filesystems.fstab import Entry, Fstab, boot_options, is_own, same
from ..errors import AlreadyExistsError, FailedPreconditionError, InvalidArgumentError
from ..flow import growing
from ..flow.flow import Flow
from ..model import Volume
from . import dependencies, fenced
from .request import Look, Request, ask, connect_changes, look, others_behind
from .run import Run
from .skeleton import Changes, Plan, change

DEFAULT_FSTYPE = "ext4"
#: What is foretold of a file system: how large it will be is known when it has grown.
GROWS = {"old": "smaller than its device", "new": "as large as its device"}


class Mount:
    """The checked parameters of ``mounted`` beside those of ``connected``.

    :param path: absolute path of the mount point.
    :param fstype: type of file system; None takes what is there, and makes ext4 where nothing is.
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
    found = look(flow, request, run)
    changes = dict(found.changes)
    if not found.changes or found.live:
        changes.update(_compare(flow, request, wanted, found))
    elif _occupied(flow, request.name, wanted.path):
        raise FailedPreconditionError(
            f"something else is mounted on {wanted.path}; unmount it or choose another mount point", field="mount"
        )
    else:
        _check_table(flow, request.name, wanted)
        changes["mount"] = change(None, wanted.path)
    if not changes:
        return Plan(f"Volume {request.name!r} is mounted on {wanted.path}.")
    if "mount" in changes:
        dependencies.check_outer_mounts(run, wanted.path)
    text = f"Volume {request.name!r} would be {'created, ' if found.creates else ''}mounted on {wanted.path}."
    if not found.creates and "mount" not in changes:
        grows = not changes.keys().isdisjoint({"size", "filesystem"})
        text = f"Volume {request.name!r}, mounted on {wanted.path}, would be {'grown' if grows else 'changed'}."
    return Plan(text, changes, lambda: _apply(flow, request, wanted, found), ask(flow, request, found))


def unmounted(flow: Flow, name: Any, owner: Any) -> Plan:
    """Plan that a volume is not mounted, now or at boot. It stays attached, unless it was taken from this host."""
    name = validate.name(name)
    owner = flow.owner(owner)
    attached = flow.consumer.attachment(name)
    if attached is not None and attached.owner != owner:
        raise AlreadyExistsError(
            f"the volume {name!r} that is attached here belongs to {attached.owner}; say owner: {attached.owner}", field="owner"
        )
    paths = [m.path for m in live(flow, name)]
    entries = own_mounts(flow, name)
    if not paths and not entries:
        return Plan(f"Volume {name!r} is not mounted.")
    # To unmount is to write, so the controller must say first that the volume is still this host's.
    if (stale := fenced.plan(flow, owner, name)) is not None:
        return stale
    shown = paths or [e.mount_point for e in entries]
    changes = {"mount": change(", ".join(dict.fromkeys(shown)), None)}
    return Plan(f"Volume {name!r} would be unmounted from {', '.join(shown)}.", changes, lambda: _unmount(flow, name))


def own_mounts(flow: Flow, name: str) -> list[Entry]:
    """Return the entries of a volume in the table of file systems: what ``mounted`` made."""
    return _fstab(flow).of_device(flow.consumer.links.path(name))


def own_mount_points(flow: Flow, name: str) -> set[str]:
    """Return where ``mounted`` mounted a volume."""
    return {os.path.realpath(entry.mount_point) for entry in own_mounts(flow, name)}


def refuse_in_use(flow: Flow, name: str) -> None:
    """Raise FailedPreconditionError when somebody uses a volume beside our own mounts, or uses those; the users are named."""
    own = own_mount_points(flow, name)
    found = [str(h) for h in flow.consumer.holders(name) if not (h.kind == "mount" and h.text.removeprefix("mounted on ") in own)]
    found += [user for m in live(flow, name) if m.path in own for user in mounting.users(m.path)]
    if found:
        raise FailedPreconditionError(f"volume {name!r} is in use: {'; '.join(dict.fromkeys(found))}")


def unmount_own(flow: Flow, name: str) -> Changes:
    """Undo what ``mounted`` did, and nothing that somebody else mounted; return the changes."""
    own = own_mount_points(flow, name)
    paths = [m.path for m in live(flow, name) if m.path in own]
    _undo(flow, name, paths)
    return {"mount": change(", ".join(paths), None)} if paths else {}


def live(flow: Flow, name: str) -> list[mounts.Mount]:
    """Return the mounts of the file system on a volume, by whomever they were made."""
    return growing.live(flow.consumer, name)


def grow(flow: Flow, device: str, fstype: str, path: str | None, changes: Changes) -> None:
    """Let a file system fill its device, when it is smaller and can, and add that to the changes."""
    if not resizefs.can_grow(device, fstype, path):
        return
    before, _ = resizefs.size(device, fstype, path)
    resizefs.grow(device, fstype, path, timeout=flow.consumer.config.format_timeout)
    after, _ = resizefs.size(device, fstype, path)
    changes["filesystem"] = change(f"{before >> 20} MiB", f"{after >> 20} MiB")


# Within.


def _apply(flow: Flow, request: Request, wanted: Mount, found: Look) -> tuple[Changes, str]:
    changes: Changes = {}
    volume, connection = found.volume, None
    if found.changes:
        done = flow.connect(request.owner, request.name, **request.how)
        changes, volume, connection = connect_changes(request.name, done), done.volume, done.connection
    if volume is None:
        raise InvalidArgumentError("the volume is not known", field="name")
    name = request.name
    with flow.consumer.lock(name):
        device = flow.consumer.check(name).device
        fstype = _mount(flow, request, wanted, device, volume, changes)
        former = _former(flow, name, wanted)
        if _fstab(flow).set(_entry(flow, name, wanted, fstype, volume), former):
            changes.setdefault("fstab", _moved(former, wanted))
        if _may_grow(request, wanted):
            grow(flow, device, fstype, wanted.path, changes)
        if connection is not None:
            flow.followed(volume, connection)
    return changes, f"Volume {name!r} {_told(changes)} on {wanted.path}.{others_behind(flow, volume)}"


def _mount(flow: Flow, request: Request, wanted: Mount, device: str, volume: Volume, changes: Changes) -> str:
    """Mount the device unless it is, making a file system where there is none; return the file system's type."""
    state = _checked_state(flow, request.name, wanted, device)
    if state.top is not None:
        flow.consumer.end_format(request.name)
        return state.top.fstype
    fstype = _file_system(flow, request, wanted, device, changes)
    if _may_grow(request, wanted):
        # An ext file system grows unmounted too, and there it needs no more than root.
        grow(flow, device, fstype, None, changes)
    flow.consumer.add_mount_point(request.name, wanted.path)
    mounting.mount(
        device, wanted.path, fstype, _options(wanted, fstype, volume, request.read_only), timeout=flow.consumer.config.step_timeout
    )
    changes["mount"] = change(None, wanted.path)
    return fstype


def _file_system(flow: Flow, request: Request, wanted: Mount, device: str, changes: Changes) -> str:
    """Return the type of the file system on a device; one is made when the device was read and is empty."""
    found = probe.probe(device, timeout=flow.consumer.config.step_timeout)
    attached = flow.consumer.attachment(request.name)
    cut_off = attached is not None and attached.formatting
    if found.kind == probe.FILESYSTEM and not (cut_off and mkfs.unfinished(device, found)):
        if wanted.fstype is not None and found.fstype != wanted.fstype:
            raise _other_fstype(request.name, found.fstype, str(wanted.fstype))
        if cut_off:
            # It was finished, here or by hand, and may hold data since.
            flow.consumer.end_format(request.name)
        return found.fstype
    if not found.empty and not cut_off:
        raise AlreadyExistsError(f"volume {request.name!r} holds {found}, and is not formatted; empty it by hand if it is not needed")
    if request.read_only:
        raise FailedPreconditionError(f"volume {request.name!r} has no file system, and is connected read-only", field="read_only")
    fstype = wanted.fstype or DEFAULT_FSTYPE
    flow.format(request.owner, request.name, fstype, wanted.mkfs_options)
    changes["filesystem"] = change(None, fstype)
    return fstype


def _compare(flow: Flow, request: Request, wanted: Mount, seen: Look) -> Changes:
    """Return what is not as it should be with the mount of an attached volume; only reads."""
    device = flow.consumer.check(request.name).device
    state = _checked_state(flow, request.name, wanted, device)
    changes: Changes = {}
    _check_table(flow, request.name, wanted)
    if state.top is None:
        found = probe.probe(device, timeout=flow.consumer.config.step_timeout)
        if found.kind == probe.FILESYSTEM and wanted.fstype not in (None, found.fstype):
            raise _other_fstype(request.name, found.fstype, str(wanted.fstype))
        changes["mount"] = change(None, wanted.path)
        if found.kind == probe.FILESYSTEM and _grows(request, wanted, device, found.fstype, None, seen):
            changes["filesystem"] = dict(GROWS)
        return changes
    fstype = state.top.fstype
    entry = _entry(flow, request.name, wanted, fstype, seen.volume)
    have = _fstab(flow).find(wanted.path)
    former = _former(flow, request.name, wanted)
    if have is None or former:
        changes["fstab"] = _moved(former, wanted)
    if have is not None and have.device == entry.device and have.options != entry.options:
        raise AlreadyExistsError(
            f"{wanted.path} is mounted with the options {have.options}, asked for is {entry.options}; apply storage_volume.unmounted first",
            field="mount_options",
        )
    if _grows(request, wanted, device, fstype, wanted.path, seen):
        # Before the volume grows: what cannot follow it would stay behind.
        resizefs.check_growable(fstype)
        changes["filesystem"] = dict(GROWS)
    return changes


def _checked_state(flow: Flow, name: str, wanted: Mount, device: str) -> mounts.MountState:
    """Return what is mounted on the mount point, after refusing what is in the way of ours."""
    state = mounts.state(wanted.path, device)
    if state.top is not None and not state.right:
        text = f"{state.top.source} is mounted on {wanted.path}, not volume {name!r}; unmount it, or choose another mount point"
        raise FailedPreconditionError(text, field="mount")
    elsewhere = [m.path for m in live(flow, name) if m.path != os.path.realpath(wanted.path)]
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
    """Refuse to call a file system mounted that the kernel has stopped, as it does when the storage was away for too long."""
    try:
        os.stat(path)
    except OSError as error:
        raise FailedPreconditionError(
            f"the file system of volume {name!r} on {path} has stopped ({error.strerror}); the kernel's log says why."
            " Apply storage_volume.unmounted, and then this again"
        ) from None


def _check_table(flow: Flow, name: str, wanted: Mount) -> None:
    """Refuse a mount point that the table of file systems gives to another device."""
    have = _fstab(flow).find(wanted.path)
    if have is not None and have.device != flow.consumer.links.path(name):
        table = flow.consumer.config.fstab
        text = f"{table} mounts {have.device} on {wanted.path}; remove that line, or choose another mount point"
        raise FailedPreconditionError(text, field="mount")


def _occupied(flow: Flow, name: str, path: str) -> bool:
    return mounts.state(path).mounted and not any(m.path == os.path.realpath(path) for m in live(flow, name))


def _unmount(flow: Flow, name: str) -> tuple[Changes, str]:
    paths = [m.path for m in live(flow, name)]
    entries = own_mounts(flow, name)
    _undo(flow, name, paths)
    shown = paths or [e.mount_point for e in entries]
    return {"mount": change(", ".join(shown), None)}, f"Volume {name!r} was unmounted from {', '.join(shown)}."


def _undo(flow: Flow, name: str, paths: list[str]) -> None:
    with flow.consumer.lock(name):
        # Stacked mounts come off in the reverse order.
        for path in reversed(paths):
            top = mounts.state(path).top
            if top not in live(flow, name):
                raise FailedPreconditionError(f"something else is mounted over {path}; unmount that first")
            mounting.unmount(path, timeout=flow.consumer.config.format_timeout)
        table = _fstab(flow)
        for entry in own_mounts(flow, name):
            table.remove(entry.mount_point, entry.device)
        flow.consumer.remove_mount_points(name)


def _entry(flow: Flow, name: str, wanted: Mount, fstype: str, volume: Volume | None) -> Entry:
    attached = flow.consumer.attachment(name)
    read_only = attached is not None and attached.read_only
    options = boot_options(_options(wanted, fstype, volume, read_only))
    return Entry(device=flow.consumer.links.path(name), mount_point=wanted.path, fstype=fstype, options=options)


def _former(flow: Flow, name: str, wanted: Mount) -> list[Entry]:
    """Return our entries for other mount points of a volume that it is not mounted on: unmounted by hand, it would be back at boot."""
    here = {m.path for m in live(flow, name)} - {os.path.realpath(wanted.path)}
    others = [e for e in own_mounts(flow, name) if is_own(e) and not same(e.mount_point, wanted.path)]
    return [e for e in others if os.path.realpath(e.mount_point) not in here]


def _moved(former: list[Entry], wanted: Mount) -> dict[str, Any]:
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
    """Return whether the file system on an attached device is going to grow: now it could, or as soon as its device has grown."""
    if not _may_grow(request, wanted):
        return False
    follows = seen.lags and fstype in resizefs.GROW_MOUNTED
    return follows or resizefs.can_grow(device, fstype, path)


def _fstab(flow: Flow) -> Fstab:
    return Fstab(flow.consumer.config.fstab)


def _mount_point(value: Any) -> str:
    if value is None:
        raise InvalidArgumentError("mount is missing; give the path of the mount point", field="mount")
    if not isinstance(value, str) or not value.startswith("/") or not value.isprintable():
        raise InvalidArgumentError(f"mount must be an absolute path, not {value!r}", field="mount")
    path = os.path.normpath(value)
    if os.path.lexists(path) and not os.path.isdir(path):
        raise InvalidArgumentError(f"mount {path!r} exists and is not a directory", field="mount")
    if path.lstrip("/") == "":
        raise InvalidArgumentError("mount may not be /", field="mount")
    return "/" + path.lstrip("/")


def _other_fstype(name: str, have: str, want: str) -> AlreadyExistsError:
    return AlreadyExistsError(f"volume {name!r} has a file system of type {have}, not {want}; it is never formatted again", field="fstype")


def _told(changes: Changes) -> str:
    if "mount" in changes:
        made = changes.get("filesystem")
        return f"was {'formatted with ' + str(made['new']) + ' and ' if made and made['old'] is None else ''}mounted"
    if "size" in changes or "filesystem" in changes:
        return "was grown and is mounted"
    return "was changed and is mounted" if changes else "is mounted"
