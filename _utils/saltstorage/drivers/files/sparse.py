"""Sparse files that are whole or not there, even after an interruption at any point.

A file is made under a temporary name, synced, and renamed. The maker holds a lock on it meanwhile,
which tells the leftovers of a dead maker from the work of a living one.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from ...consumer.devices import loop

FICLONE = 0x40049409
_SUFFIX = ".partial"
_CHUNK = 64 * 2**20


class NoRoom(Exception):
    """A full copy would not fit."""

    def __init__(self, needed: int, spare: int) -> None:
        super().__init__(needed, spare)
        self.needed = needed
        self.spare = spare


class NotAtomic(Exception):
    """The file system cannot copy a file at one moment."""


def create(path: Path, size: int) -> None:
    """Create a file of ``size`` bytes with nothing in it, mode 0600."""
    with make_whole(path) as file:
        os.ftruncate(file, size)


def grow(path: Path, size: int) -> None:
    """Make a file ``size`` bytes long unless it is that long or longer."""
    file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        if os.fstat(file).st_size < size:
            os.ftruncate(file, size)
            os.fsync(file)
    finally:
        os.close(file)


def copy(source: Path, target: Path, size: int, *, spare: int, atomic: bool = False, replace: bool = False) -> None:
    """Copy a file, sharing its blocks where possible, and make the copy at least ``size`` bytes
    long.

    :param spare: most bytes that a copy without shared blocks may take.
    :param atomic: the source may be written meanwhile, so the copy must be made at one moment.
    :param replace: the copy replaces an existing file.
    :raises NoRoom: ``spare`` is not enough.
    :raises NotAtomic: such a copy is not possible here.
    """
    origin = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
    try:
        # Data that a loop device has accepted but not written would be missing.
        os.fsync(origin)
        with make_whole(target, replace=replace) as file:
            if not reflink(origin, file):
                if atomic:
                    raise NotAtomic
                needed = os.fstat(origin).st_blocks * 512
                if needed > spare:
                    raise NoRoom(needed, spare)
                _copy_data(origin, file)
            if os.fstat(file).st_size < size:
                os.ftruncate(file, size)
    finally:
        os.close(origin)


def rename(source: Path, target: Path) -> None:
    """Give a file another name in its directory, on disk when this returns; an existing ``target``
    is never replaced.
    """
    _refuse_existing(target)
    source.rename(target)
    _sync_directory(target.parent)


def remove(path: Path) -> None:
    """Remove a file and the remains of an interrupted :func:`create` or :func:`copy` of it."""
    path.unlink(missing_ok=True)
    _partial(path).unlink(missing_ok=True)
    _sync_directory(path.parent)


def remove_leftovers(directory: Path) -> None:
    """Remove the unfinished files of dead makers."""
    for path in directory.glob(f".*{_SUFFIX}"):
        with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            if _is_at(file.fileno(), path):
                path.unlink(missing_ok=True)


def sum_sizes(directory: Path) -> int:
    """Return the sum of the sizes of all volumes and snapshots in bytes, holes counted."""
    with os.scandir(directory) as entries:
        total = 0
        for entry in entries:
            if entry.name.startswith(("volume-", "snapshot-")):
                # Another process may remove it just now.
                with contextlib.suppress(FileNotFoundError):
                    total += entry.stat(follow_symlinks=False).st_size
        return total


def has_loop_device(path: Path) -> bool:
    """Return whether a loop device of this machine is over the file."""
    try:
        facts = os.stat(path)
    except FileNotFoundError:
        return False
    real = os.fsencode(os.path.realpath(path))
    for backing in Path("/sys/block").glob("loop*/loop/backing_file"):
        with contextlib.suppress(OSError):  # detached just now
            # Bytes: another user's file may have any name.
            shown = backing.read_bytes().rstrip(b"\n")
            try:
                found = loop.status(f"/dev/{backing.parts[3]}")
            except OSError:  # The controller may not be allowed to open devices.
                found = None
            # The kernel shows the path in the mount namespace of the process that attached it; the
            # inode is the same in all namespaces.
            if shown == real if found is None else (found.file_device, found.inode) == (facts.st_dev, facts.st_ino):
                return True
    return False


@contextlib.contextmanager
def make_whole(path: Path, *, replace: bool = False) -> Iterator[int]:
    """Yield a file descriptor to fill; the file gets its name only when all went well and is on
    disk.
    """
    if not replace:
        _refuse_existing(path)
    partial = _partial(path)
    file = _open_locked(partial)
    try:
        # Another maker may have ended while this one waited for the lock.
        if not replace:
            _refuse_existing(path)
        os.ftruncate(file, 0)
        yield file
        os.fsync(file)
        partial.rename(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    finally:
        os.close(file)
    _sync_directory(path.parent)


def _refuse_existing(path: Path) -> None:
    if path.exists():
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))


def _open_locked(partial: Path) -> int:
    """Open the unfinished file, a dead maker's included, and lock it.

    Only the process that has locked the file with this name may remove or rename it. Until then
    any process may, so the name is checked again under the lock.
    """
    while True:
        file = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            if _is_at(file, partial):
                return file
        except BaseException:
            os.close(file)
            raise
        os.close(file)


def _is_at(file: int, path: Path) -> bool:
    """Return whether the open file still has this name."""
    try:
        return os.path.samestat(os.fstat(file), os.stat(path, follow_symlinks=False))
    except FileNotFoundError:
        return False


def _partial(path: Path) -> Path:
    return path.with_name(f".{path.name}{_SUFFIX}")


def reflink(source: int, target: int) -> bool:
    """Make a file share all blocks of another; return False where the file system cannot."""
    try:
        fcntl.ioctl(target, FICLONE, source)
    except OSError as error:
        if error.errno in (errno.EOPNOTSUPP, errno.EINVAL, errno.EXDEV, errno.ENOTTY, errno.ENOSYS):
            return False
        raise
    return True


def _copy_data(source: int, target: int) -> None:
    """Copy what is data in ``source``; holes stay holes."""
    end = os.fstat(source).st_size
    os.ftruncate(target, end)
    position = 0
    while position < end:
        try:
            start = os.lseek(source, position, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # no data after this position
                return
            raise
        position = start
        stop = os.lseek(source, start, os.SEEK_HOLE)
        while position < stop:
            done = _copy_chunk(source, target, position, min(_CHUNK, stop - position))
            if done == 0:  # the source became shorter
                return
            position += done


def _copy_chunk(source: int, target: int, position: int, count: int) -> int:
    try:
        return os.copy_file_range(source, target, count, position, position)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EXDEV, errno.EINVAL, errno.ENOSYS):
            raise
    return os.pwrite(target, os.pread(source, min(count, 2**20), position), position)


def _sync_directory(directory: Path) -> None:
    file = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(file)
    finally:
        os.close(file)
