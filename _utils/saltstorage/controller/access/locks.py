"""Locks over volumes, through tooz: files between the threads and processes of one master, a URL
between masters.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
import time
import uuid
import warnings
from collections.abc import Iterator
from typing import Any

from ... import progress
from ...errors import AbortedError, FailedPreconditionError, UnavailableError
from ...validate import SHARED_OWNER

#: Locks of one owner's volumes. The file of a lock stays, and a minion may name any number of
#: volumes.
BUCKETS = 1024
#: Longest reason for a held lock that is read, characters.
_LONGEST = 500


class Locks:
    """A set of named locks. The coordination service is joined with the first lock, so that
    reading needs none.

    :param url: tooz URL, such as ``file:///var/lib/salt-storage/controller/locks`` or
        ``etcd3+http://…``.
    :param timeout: longest wait for a lock, seconds.
    """

    def __init__(self, url: str, timeout: float) -> None:
        self.timeout = timeout
        self._url = url
        #: The processes of one master share the directory of the locks and tell each other there
        #: who holds which lock.
        self._directory = url.removeprefix("file://") if url.startswith("file://") else ""
        self._holders: dict[str, str] = {}
        self._guard = threading.Lock()
        self._coordinator: Any = None

    def open(self) -> None:
        """Join the coordination service, unless that was done.

        :raises FailedPreconditionError: the URL's driver is not installed, or its directory
            cannot be written.
        :raises UnavailableError: the coordination service does not answer.
        """
        with self._guard:
            if self._coordinator is None:
                self._coordinator = self._join()

    def _join(self) -> Any:
        with warnings.catch_warnings():
            # tooz imports eventlet if it is there, and that warns the user of salt-call.
            warnings.simplefilter("ignore")
            from tooz import ToozError, coordination

        try:
            if self._directory:
                os.makedirs(self._directory, mode=0o700, exist_ok=True)
            coordinator = coordination.get_coordinator(self._url, uuid.uuid4().hex.encode())
            coordinator.start(start_heart=True)
        except OSError as error:
            raise FailedPreconditionError(f"the lock directory cannot be made: {error}; check storage:coordination") from None
        except coordination.ToozConnectionError:
            raise UnavailableError("the coordination service of storage:coordination does not answer") from None
        except ToozError as error:
            raise FailedPreconditionError(f"storage:coordination cannot be used: {type(error).__name__}") from None
        return coordinator

    def close(self) -> None:
        """Leave the coordination service, if it was joined."""
        if self._coordinator is None:
            return
        # Held locks end with the process, however the service answers now.
        with contextlib.suppress(Exception):
            self._coordinator.stop()

    @contextlib.contextmanager
    def held(self, *keys: str, why: str, timeout: float | None = None) -> Iterator[None]:
        """Hold the locks of all ``keys``; a caller that waits in vain reads ``why``.

        All callers take locks in one order, so that two callers cannot wait for each other.

        :param timeout: seconds to wait, default the set's; 0 does not wait.
        :raises AbortedError: another operation holds one of them for longer.
        :raises StorageError: as :meth:`open`.
        """
        self.open()
        limit = time.monotonic() + (self.timeout if timeout is None else timeout)
        with contextlib.ExitStack() as stack:
            for key in sorted(set(keys)):
                # Names may be long and have any Unicode; the lock's name is a file name or a key
                # in etcd.
                lock = self._coordinator.get_lock(_file_name(key).encode())
                # tooz takes False for "do not wait" and a number for a time limit.
                if not lock.acquire(blocking=False):
                    progress.step(f"waiting for {self._holder(key)}")
                    left = max(0.0, limit - time.monotonic())
                    taken = lock.acquire(blocking=left or False)
                    progress.step("")
                    if not taken:
                        text = f"busy: {self._holder(key)} has held it for longer than {self.timeout:g} s; try again when it has ended"
                        raise AbortedError(text)
                stack.callback(self._release, lock, key)
                self._tell(key, why)
            yield

    def _release(self, lock: Any, key: str) -> None:
        self._tell(key, None)
        lock.release()

    def _tell(self, key: str, why: str | None) -> None:
        """Say why a lock is held; None: it is no longer held."""
        with self._guard:
            if why is None:
                self._holders.pop(key, None)
            else:
                self._holders[key] = why
        if self._directory:
            # Only callers that wait read it, so no operation fails for it.
            path = os.path.join(self._directory, f"{_file_name(key)}.holder")
            with contextlib.suppress(OSError):
                if why is None:
                    os.unlink(path)
                else:
                    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "w", encoding="utf-8") as file:
                        file.write(why)

    def _holder(self, key: str) -> str:
        """Return the reason why a lock is held, as far as it is known."""
        with self._guard:
            found = self._holders.get(key, "")
        if not found and self._directory:
            path = os.path.join(self._directory, f"{_file_name(key)}.holder")
            with contextlib.suppress(OSError), open(path, encoding="utf-8", errors="replace") as file:
                found = file.read(_LONGEST)
        return found or "another process of the controller"


def _file_name(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()[:32]


def volume_key(owner: str, name: str) -> str:
    """Return the key of a volume's lock; the separator cannot stand in a minion's id or a volume's
    name.

    Now and then two volumes of one owner share a lock, and one operation waits for the other. So
    the holder of one takes no other volume's with a second call of :meth:`Locks.held`. Shared
    volumes, which no minion can make, have one lock each: no minion waits for a volume that it may
    not see.
    """
    if owner == SHARED_OWNER:
        return f"volume/{owner}/{name}"
    return f"volume/{owner}/{int(hashlib.sha256(name.encode()).hexdigest(), 16) % BUCKETS}"


def owner_key(owner: str) -> str:
    """Return the key of the lock under which an owner's quota is checked and used."""
    return f"owner/{owner}"


def reference_key(backend: str, reference: str) -> str:
    """Return the key of the lock under which a volume of a backend is taken over."""
    return f"reference/{backend}/{reference}"


def instance_key(instance: str) -> str:
    """Return the key of the lock that an engine holds for as long as it lives."""
    return f"engine/{instance}"
