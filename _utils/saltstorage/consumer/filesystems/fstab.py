"""The table of file systems.

This module adds, changes and removes whole entries, and keeps all other lines.  Salt's ``mount``
module writes the file in place, so that a full disk or a crash leaves half of it, and lacks the
escapes that fstab(5) demands. This module replaces the file as a whole, and names may have spaces
and backslashes.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import stat
import tempfile
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from ...errors import FailedPreconditionError
from ..host.locks import VolumeLocks

#: Unit that attaches volumes at boot; their file systems are mounted after it.
REATTACH_UNIT = "salt-storage-reattach.service"
#: How long that unit may take.
REATTACH_TIMEOUT = "10min"
#: Seconds to wait for another job that changes the table; each change takes milliseconds.
_LOCK_TIMEOUT = 60.0


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One line of the table, as fstab(5) names its fields."""

    device: str
    mount_point: str
    fstype: str
    options: str = "defaults"
    dump: int = 0
    passno: int = 0

    def line(self) -> str:
        """Return the line, without its end."""
        fields = (
            _escape(self.device),
            _escape(self.mount_point),
            _escape(self.fstype),
            _escape(self.options),
            str(self.dump),
            str(self.passno),
        )
        return "\t".join(fields)


class Fstab:
    """The table at ``path``, normally ``/etc/fstab``; a missing file is an empty table.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     table = Fstab(f"{folder}/fstab")
    ...     table.set(Entry(device="/dev/storage/data", mount_point="/srv", fstype="ext4"))
    ...     table.find("/srv").device
    True
    '/dev/storage/data'
    """

    def __init__(self, path: str) -> None:
        self.path = path

    def find(self, mount_point: str) -> Entry | None:
        """Return the entry of a mount point, or None; the last one counts, as for mount(8) -a."""
        found = [entry for line in self._lines() if (entry := parse(line)) and same(entry.mount_point, mount_point)]
        return found[-1] if found else None

    def all(self) -> list[Entry]:
        """Return all entries."""
        return [entry for line in self._lines() if (entry := parse(line))]

    def of_device(self, device: str) -> list[Entry]:
        """Return the entries that name a device by this very path."""
        return [entry for entry in self.all() if entry.device == device]

    def check_writable(self) -> None:
        """Refuse a table that :meth:`set` could not write, before anything else is changed.

        A disk that is full is not noticed.

        :raises FailedPreconditionError: no right, a file system that is only read, or a file or
            folder that was made immutable.
        """
        path = os.path.realpath(self.path)
        for part in (os.path.dirname(path), path):
            if os.path.exists(part) and not os.access(part, os.W_OK):
                raise FailedPreconditionError(
                    f"{self.path} cannot be written: {part} may not be changed by this user, is immutable, or is on a file system"
                    " that is mounted read-only; nothing was changed",
                    field="mount",
                )

    def set(self, entry: Entry, former: Collection[Entry] = ()) -> bool:
        """Make ``entry`` the only one of its mount point; return whether the file was changed.

        :param former: entries of other mount points that it replaces, as :meth:`of_device`
            returned them.
        :raises FailedPreconditionError: another device has the mount point, or the file cannot be
            written.
        :raises AbortedError: another job has worked on the table for too long.
        """
        with self._lock():
            return self._set(entry, former)

    def remove(self, mount_point: str, device: str) -> bool:
        """Remove the entries of a device at a mount point; return whether there were any.

        :raises FailedPreconditionError: the file cannot be written.
        :raises AbortedError: another job has worked on the table for too long.
        """
        with self._lock():
            lines = self._lines()
            kept = [line for line in lines if not ((e := parse(line)) and same(e.mount_point, mount_point) and e.device == device)]
            return self._write(lines, kept)

    def _set(self, entry: Entry, former: Collection[Entry]) -> bool:
        lines, kept, at = self._lines(), [], None
        for line in lines:
            found = parse(line)
            if found in former:
                continue
            if found is None or not same(found.mount_point, entry.mount_point):
                kept.append(line)
                continue
            if found.device != entry.device:
                raise FailedPreconditionError(
                    f"{self.path} mounts {found.device} at {entry.mount_point}; remove that line, or choose another mount point",
                    field="mount",
                )
            if at is None:
                at = len(kept)
                # An equal line stays as its owner wrote it.
                equal = dataclasses.replace(found, mount_point=entry.mount_point) == entry
                kept.append(line if equal else entry.line() + "\n")
        if at is None:
            if kept and not kept[-1].endswith("\n"):
                kept[-1] += "\n"
            kept.append(entry.line() + "\n")
        return self._write(lines, kept)

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        """Keep other states, and other minions of this host, from changing the table meanwhile.

        The table itself cannot be the lock, since it is replaced, and its directory is no place
        for other files.
        """
        with VolumeLocks(_lock_directory(), _LOCK_TIMEOUT, "the table").hold(os.path.realpath(self.path)):
            yield

    def _lines(self) -> list[str]:
        try:
            # Bytes that are not UTF-8, such as in a comment, must come out as they went in.
            with open(self.path, encoding="utf-8", errors="surrogateescape", newline="") as file:
                return file.readlines()
        except FileNotFoundError:
            return []
        except OSError as error:
            raise FailedPreconditionError(f"{self.path} cannot be read: {error.strerror}") from None

    def _write(self, old: list[str], new: list[str]) -> bool:
        if new == old:
            return False
        # A link stays a link, as on systems that keep /etc elsewhere.
        path = os.path.realpath(self.path)
        temporary = None
        try:
            fd, temporary = tempfile.mkstemp(prefix=".fstab-", dir=os.path.dirname(path))
            with os.fdopen(fd, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
                try:
                    before = os.stat(path)
                    os.fchmod(fd, stat.S_IMODE(before.st_mode))
                    os.fchown(fd, before.st_uid, before.st_gid)
                except FileNotFoundError:
                    os.fchmod(fd, 0o644)
                file.writelines(new)
                file.flush()
                os.fsync(fd)
            os.rename(temporary, path)
            temporary = None
        except OSError as error:
            raise FailedPreconditionError(f"{self.path} cannot be written, and is as it was: {error.strerror}") from None
        finally:
            if temporary is not None:
                with contextlib.suppress(OSError):
                    os.unlink(temporary)
        return True


def parse(line: str) -> Entry | None:
    """Return the entry in a line, or None for a comment, an empty line or a malformed line."""
    fields = line.split()
    if len(fields) < 3 or fields[0].startswith("#"):
        return None
    device, mount_point, fstype, *rest = fields
    options, dump, passno = [*rest, *("defaults", "0", "0")[len(rest) :]][:3]
    if not dump.isdigit() or not passno.isdigit():
        return None
    return Entry(
        device=_unescape(device),
        mount_point=_unescape(mount_point),
        fstype=_unescape(fstype),
        options=_unescape(options),
        dump=int(dump),
        passno=int(passno),
    )


def boot_options(options: str) -> str:
    """Return mount options for the table: the user's, and options that make the boot wait.

    The mount must come after the volume is attached.  ``_netdev`` orders the mount after the
    network.  The mount waits for the unit that attaches all volumes, and does not require it: the
    unit fails when one volume cannot be attached, and the file systems on the others are mounted
    all the same.  The timeout of the device is that of the unit, since systemd begins to wait for
    both at once.

    >>> boot_options("defaults,noatime")
    'defaults,noatime,_netdev,x-systemd.after=salt-storage-reattach.service,x-systemd.device-timeout=10min'
    """
    have = options.split(",")
    ours = ("_netdev", f"x-systemd.after={REATTACH_UNIT}", f"x-systemd.device-timeout={REATTACH_TIMEOUT}")
    return ",".join([*have, *(o for o in ours if o not in have)])


def is_own(entry: Entry) -> bool:
    """Return whether an entry has the options that :func:`boot_options` adds."""
    return {"_netdev", f"x-systemd.after={REATTACH_UNIT}"} <= set(entry.options.split(","))


def same(one: str, other: str) -> bool:
    """Return whether two mount points are the same in writing; ``/srv/x/`` is ``/srv/x``."""
    return one == other or (
        one[:1] == other[:1] == "/" and os.path.normpath(f"/{one.lstrip('/')}") == os.path.normpath(f"/{other.lstrip('/')}")
    )


def _lock_directory() -> str:
    """Return the directory of the lock files, which all minions of a user share.

    Only this user may write there.
    """
    root = os.geteuid() == 0 and os.path.isdir("/run")
    path = "/run/salt-storage" if root else os.path.join(tempfile.gettempdir(), f"salt-storage-{os.geteuid()}")
    try:
        with contextlib.suppress(FileExistsError):
            os.mkdir(path, 0o700)
        found = os.lstat(path)
    except OSError as error:
        raise FailedPreconditionError(f"{path}, for the lock of the table of file systems, cannot be made: {error.strerror}") from None
    # In a folder that everybody may write to, another user may have been faster.
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o022:
        raise FailedPreconditionError(f"{path} is not a directory that only this user may write to; remove it")
    return path


def _escape(text: str) -> str:
    # A field may neither have white space nor begin a comment. All characters that str.split()
    # splits at are escaped byte by byte.
    return "".join(
        "".join(f"\\{byte:03o}" for byte in char.encode("utf-8", "surrogateescape")) if char.isspace() or char in "\\#" else char
        for char in text
    )


def _unescape(text: str) -> str:
    raw = re.sub(rb"\\([0-7]{3})", lambda m: bytes([int(m[1], 8) & 0xFF]), text.encode("utf-8", "surrogateescape"))
    return raw.decode("utf-8", "surrogateescape")
