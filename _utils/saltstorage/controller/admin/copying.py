"""Copies one block device or file over another, and proves that the copy is the same."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator

from ...errors import DataLossError, FailedPreconditionError, UnavailableError
from ...progress import step

#: Bytes read at once; a piece that is all zeros is not written.
CHUNK = 2**20
_ZEROS = bytes(CHUNK)
#: Bytes after which pages are dropped from the cache, so that a copy does not push everything else
#: out of memory.
_DROP = 64 * CHUNK


def copy(source: str, target: str) -> str:
    """Copy all of ``source`` over the beginning of ``target`` and return the checksum (SHA-256) of
    the data that was read.

    Zeros of the source are only written where the target is not zero already, so a thin target
    stays thin. Everything is on the disk when this returns.

    :raises FailedPreconditionError: the target is smaller, or in use.
    :raises UnavailableError: one of the two cannot be read or written.
    """
    digest = hashlib.sha256()
    with OpenedFile(source, os.O_RDONLY) as reading, OpenedFile(target, os.O_RDWR | os.O_EXCL) as writing:
        size = reading.size
        if writing.size < size:
            raise FailedPreconditionError(f"the target has {writing.size} bytes, and the source {size}")
        for position, data in reading.chunks(size):
            digest.update(data)
            if data != _ZEROS[: len(data)] or writing.read(position, len(data)) != data:
                writing.write(position, data)
            step("copying", done=position, total=size)
        writing.sync()
    return digest.hexdigest()


def verify(source: str, target: str, checksum: str) -> None:
    """Read both again, from the disks and not from memory, and compare them with the checksum of
    :func:`copy`.

    :raises DataLossError: they differ.
    :raises UnavailableError: one of the two cannot be read.
    """
    with OpenedFile(source, os.O_RDONLY) as first, OpenedFile(target, os.O_RDONLY) as second:
        size = first.size
        for what, opened, half in (("source changed while it was copied", first, 0), ("copy differs from the source", second, 1)):
            digest = hashlib.sha256()
            for position, data in opened.chunks(size):
                digest.update(data)
                step("comparing", done=half * size + position, total=2 * size)
            if digest.hexdigest() != checksum:
                raise DataLossError(f"the {what}: the checksums are not the same; the source is kept as it is. Look for its other users")


class OpenedFile:
    """A device or file that is read and written at positions, with little of it in the cache."""

    def __init__(self, path: str, flags: int) -> None:
        self._path = path
        self._flags = flags
        self._fd = -1
        self._cached = 0
        self.size = 0

    def __enter__(self) -> OpenedFile:
        with _NamedErrors(self._path):
            self._fd = os.open(self._path, self._flags | os.O_CLOEXEC)
            self.size = os.lseek(self._fd, 0, os.SEEK_END)
            self._drop()
        return self

    def __exit__(self, *_: object) -> None:
        self._drop()
        os.close(self._fd)

    def chunks(self, size: int) -> Iterator[tuple[int, bytes]]:
        """Yield the positions and the data of the first ``size`` bytes."""
        for position in range(0, size, CHUNK):
            yield position, self.read(position, min(CHUNK, size - position))

    def read(self, position: int, count: int) -> bytes:
        """Return ``count`` bytes at a position."""
        with _NamedErrors(self._path):
            data = os.pread(self._fd, count, position)
        if len(data) != count:
            raise UnavailableError(f"{self._path} could not be read at byte {position}")
        self._count_cached(count)
        return data

    def write(self, position: int, data: bytes) -> None:
        """Write all of ``data`` at a position."""
        view = memoryview(data)
        with _NamedErrors(self._path):
            while view:
                done = os.pwrite(self._fd, view, position)
                view, position = view[done:], position + done
        self._count_cached(len(data))

    def sync(self) -> None:
        """Bring everything that was written to the disk."""
        with _NamedErrors(self._path):
            os.fsync(self._fd)

    def _count_cached(self, count: int) -> None:
        self._cached += count
        if self._cached >= _DROP:
            if self._flags & os.O_RDWR:
                self.sync()  # Pages that are not on the disk yet cannot be dropped.
            self._drop()

    def _drop(self) -> None:
        self._cached = 0
        os.posix_fadvise(self._fd, 0, 0, os.POSIX_FADV_DONTNEED)


class _NamedErrors:
    """Raises UnavailableError, with the name of the device, for an error of the system."""

    def __init__(self, path: str) -> None:
        self._path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, _type: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, OSError):
            raise UnavailableError(f"{self._path} cannot be used: {error.strerror}") from None
