"""The stable names of volumes: links in ``/dev/storage``."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat

from ...errors import FailedPreconditionError
from . import udev

_BY_ID = "/dev/disk/by-id"
#: Kinds of by-id links, ordered: the names of the unit itself come before the names of a way to it.
_PREFERENCE = ("dm-uuid-mpath-", "wwn-", "nvme-eui.", "nvme-uuid.", "nvme-nvme.", "scsi-3", "scsi-", "nvme-", "virtio-", "ata-")


def stable_path(device: str) -> str:
    """Return the device's best path under ``/dev/disk/by-id``, or the device itself without one."""
    device = os.path.realpath(device)
    try:
        names = os.listdir(_BY_ID)
    except FileNotFoundError:
        return device
    own = [name for name in names if os.path.realpath(os.path.join(_BY_ID, name)) == device]
    if not own:
        return device
    rank = {prefix: number for number, prefix in enumerate(_PREFERENCE)}
    best = min(own, key=lambda name: (min((rank[p] for p in rank if name.startswith(p)), default=len(rank)), name))
    return os.path.join(_BY_ID, best)


class DeviceLinks:
    """The links to attached volumes in one directory.

    :param directory: created with mode 0755 when the first link is made.
    """

    def __init__(self, directory: str) -> None:
        self.directory = directory

    def path(self, name: str) -> str:
        """Return the path of the link of a volume, whether it exists or not."""
        return os.path.join(self.directory, name)

    def target(self, name: str) -> str | None:
        """Return where the link of a volume points; None when there is no link."""
        try:
            return os.readlink(self.path(name))
        except (FileNotFoundError, NotADirectoryError, OSError):
            return None

    def check(self, name: str) -> None:
        """Refuse when something else than our link is in the way.

        :raises FailedPreconditionError: the path is a file, a directory or a link to something
            that is no device.
        """
        path = self.path(name)
        try:
            mode = os.lstat(path).st_mode
        except FileNotFoundError:
            return
        except NotADirectoryError:
            raise FailedPreconditionError(f"{self.directory} is not a directory; move it away") from None
        if not stat.S_ISLNK(mode):
            raise FailedPreconditionError(f"{path} is in the way and is not a link to a volume; move it away")
        target = os.readlink(path)
        if not target.startswith("/dev/"):
            raise FailedPreconditionError(f"{path} is a link to {target!r}, which is no device; move it away")

    def make(self, name: str, target: str) -> str:
        """Let the link of a volume point at ``target``, atomically, and return its path."""
        self.check(name)
        path = self.path(name)
        if self.target(name) == target:
            udev.announce(target, path)
            return path
        with contextlib.suppress(FileExistsError):
            os.makedirs(self.directory)
            # Other users find devices by their links too, whatever umask the minion has.
            os.chmod(self.directory, 0o755)  # noqa: S103
        temporary = self._temporary(name)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        os.symlink(target, temporary)
        os.rename(temporary, path)
        udev.announce(target, path)
        return path

    def remove(self, name: str) -> None:
        """Remove the link of a volume; a missing link is fine, and anything else there stays."""
        try:
            self.check(name)
        except FailedPreconditionError:
            return
        udev.forget(self.path(name))
        for path in (self._temporary(name), self.path(name)):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)

    def _temporary(self, name: str) -> str:
        # This name is longer than a volume's may be, so it is never a volume's; each try uses the
        # same, so a crash leaves at most one.
        return os.path.join(self.directory, "." + hashlib.sha512(name.encode()).hexdigest() + ".new")
