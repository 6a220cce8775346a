"""The configured backends of one process: loaded once, kept, and tried again when they are down."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from ...errors import FailedPreconditionError, InternalError, InvalidArgumentError, StorageError, UnavailableError
from ...faults import as_storage_error
from ...providers.base import BackendConfig, Capability, Provider
from ..access.config import BackendEntry, ControllerConfig
from ..catalog.catalog import Catalog

log = logging.getLogger(__name__)

#: How long a caller waits for a backend that is being loaded, seconds. Arrays with many LUNs take
#: minutes.
LOAD_TIMEOUT = 120
#: The same in an engine, counted from its start: enough for an ordinary driver, so that a request
#: right after a restart succeeds. Later, requests are refused at once while the backend is not
#: up; the minion tries again.
WATCHED_LOAD_TIMEOUT = 10


@dataclass(frozen=True, kw_only=True)
class Look:
    """The last look at a backend.

    :ivar state: ``up``: the array answered; ``down``; or ``unknown``.
    :ivar error: the reason why it is not up.
    :ivar capabilities: its abilities; none while it is not up.
    :ivar checked: when, seconds since the epoch; None: never.
    """

    state: str
    error: str = ""
    capabilities: frozenset[Capability] = frozenset()
    checked: float | None = None


class Backend:
    """One backend, loaded or down."""

    def __init__(self, entry: BackendEntry, make: Callable[[BackendEntry], Provider], retry_interval: float) -> None:
        self.entry = entry
        self._make = make
        self._retry_interval = retry_interval
        self._lock = threading.Lock()
        self._provider: Provider | None = None
        self._tried = 0.0
        #: End of the time in which callers wait for the first load, by the monotonic clock; None:
        #: callers load the backend themselves.
        self._patience: float | None = None
        self._first_load_ended = threading.Event()
        self._since = time.monotonic()
        self._seen: Look | None = None
        self.error: StorageError | None = None

    def provider(self) -> Provider:
        """Return the provider. A backend that is not watched is loaded first, if that was not
        done or failed some time ago.

        :raises StorageError: it cannot be loaded; the same error is raised without a new try
            until ``retry_interval`` has passed.
        :raises UnavailableError: it is still being loaded.
        """
        if (provider := self.loaded()) is not None:
            return provider
        if self._patience is None:
            return self.load()
        # Only the watcher loads a backend; a worker waiting for it would be unavailable to the
        # other backends.
        self._first_load_ended.wait(max(0.0, self._patience - time.monotonic()))
        if (provider := self.loaded()) is not None:
            return provider
        if self.error is not None:
            raise _copy(self.error)
        raise self._still_loading()

    def leave_to_watcher(self, patience: float) -> None:
        """Have callers wait for ``patience`` seconds from now on at most: a watcher calls
        :meth:`load`.
        """
        self._patience = time.monotonic() + patience

    def saw(self, look: Look) -> None:
        """Keep what was seen of it."""
        self._seen = look

    def look(self) -> Look:
        """Return what is known of it now: an old look, or none, is no knowledge."""
        if self._seen is None:
            return Look(state="unknown", error=f"it is being loaded, since {time.monotonic() - self._since:.0f} s")
        age = time.time() - (self._seen.checked or 0.0)
        if age > 2 * self._retry_interval + LOAD_TIMEOUT:
            return Look(state="unknown", error=f"its driver has not answered for {age:.0f} s", checked=self._seen.checked)
        return self._seen

    def load(self) -> Provider:
        """Return the provider, after loading it if that was not done or failed some time ago;
        wait for as long as that takes.

        :raises StorageError: as :meth:`provider`.
        """
        if not self._lock.acquire(timeout=LOAD_TIMEOUT):
            raise self._still_loading()
        try:
            if self._provider is None:
                if self.error is not None and time.monotonic() - self._tried < self._retry_interval:
                    raise _copy(self.error)
                self._provider = self._load()
            return self._provider
        finally:
            self._first_load_ended.set()
            self._lock.release()

    def loaded(self) -> Provider | None:
        """Return the provider if it is loaded, else None."""
        return self._provider

    def _load(self) -> Provider:
        try:
            provider = self._make(self.entry)
            provider.load()
        except StorageError as error:
            # The user's request was right; a wrong option of the backend is a fault of the
            # controller.
            cls = FailedPreconditionError if isinstance(error, InvalidArgumentError) else type(error)
            failure: StorageError = cls(f"backend {self.entry.name!r} is down: {error.message}")
        except Exception as error:
            hidden = as_storage_error(error, "loading it")
            failure = InternalError(f"backend {self.entry.name!r} is down: {hidden.message}")
        else:
            self.error = None
            return provider
        self.error = failure
        self._tried = time.monotonic()
        log.error("storage: %s", failure)
        raise _copy(failure)

    def _still_loading(self) -> UnavailableError:
        return UnavailableError(f"backend {self.entry.name!r} is still being loaded; try again later")


def _copy(error: StorageError) -> StorageError:
    """Return a copy to raise: an exception grows by a traceback each time it is raised, and must
    not be shared by threads.
    """
    return type(error)(error.message, field=error.field, details=error.details)


class Backends(Mapping[str, Backend]):
    """All configured backends by name."""

    def __init__(self, config: ControllerConfig, catalog: Catalog) -> None:
        self._config = config
        self._catalog = catalog
        self._backends = {name: Backend(entry, self._make, config.retry_interval) for name, entry in config.backends.items()}

    def __getitem__(self, name: str) -> Backend:
        return self._backends[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._backends)

    def __len__(self) -> int:
        return len(self._backends)

    def provider(self, name: str) -> Provider:
        """Return the loaded provider of a backend.

        :raises FailedPreconditionError: the backend is not configured any more, although a volume
            is on it.
        :raises StorageError: as :meth:`Backend.provider`.
        """
        backend = self._backends.get(name)
        if backend is None:
            raise FailedPreconditionError(
                f"backend {name!r} is not in the controller's configuration any more; configure it again, or say with "
                "salt-run storage.rename_backend which name the same storage has now"
            )
        return backend.provider()

    def watch(
        self, when_up: Callable[[str], bool], restore: Callable[[str], bool], stop: threading.Event, patience: float | None = None
    ) -> list[threading.Thread]:
        """Load every backend in a thread of its own, try again while it is down, and record its
        state in the catalog.

        From now on, callers of :meth:`provider` load nothing themselves, and wait for a load only
        a short time.

        :param when_up: called with the backend's name once it is up, and when it has lost
            exports; returns whether an export is not restored yet.
        :param restore: called with the name every ``retry_interval`` seconds, as long as an
            export is not restored; returns the same.
        :param stop: set to end the threads.
        :param patience: seconds from now in which callers wait for a load; default
            :data:`WATCHED_LOAD_TIMEOUT`.
        """
        threads = [
            threading.Thread(target=self._watch, args=(backend, when_up, restore, stop), name=f"storage-{name}", daemon=True)
            for name, backend in self._backends.items()
        ]
        for backend in self._backends.values():
            backend.leave_to_watcher(WATCHED_LOAD_TIMEOUT if patience is None else patience)
        for thread in threads:
            thread.start()
        return threads

    def close(self, names: Iterable[str] | None = None) -> None:
        """Close the providers that are loaded."""
        for name in names if names is not None else self._backends:
            provider = self._backends[name].loaded()
            if provider is not None:
                provider.close()

    def _watch(self, backend: Backend, when_up: Callable[[str], bool], restore: Callable[[str], bool], stop: threading.Event) -> None:
        name, looked_at = backend.entry.name, False
        while not stop.is_set():
            # The thread survives every fault, such as a lost database of the catalog: nothing
            # else would load the backend.
            try:
                provider = backend.load()
            except StorageError as error:
                self._record(backend, "down", error=str(error))
            else:
                try:
                    self._record(backend, "up", capabilities=provider.capabilities())
                    log.info("storage: backend %s is up", name)
                    if not looked_at:
                        looked_at = True
                        look = threading.Thread(target=self._look_again, args=(backend, provider, stop), name=f"look-{name}", daemon=True)
                        look.start()
                    unrestored = when_up(name)
                    self._look_after(name, provider, when_up, restore, stop, unrestored=unrestored)
                    return
                except Exception as error:
                    fault = as_storage_error(error, f"recovery of backend {name!r}")
                    log.error("storage: backend %s is up, but what was half done on it is not finished yet: %s", name, fault)
            stop.wait(self._config.retry_interval)

    def _look_after(
        self,
        name: str,
        provider: Provider,
        when_up: Callable[[str], bool],
        restore: Callable[[str], bool],
        stop: threading.Event,
        *,
        unrestored: bool,
    ) -> None:
        """Recover again when exports are lost, as after a restart of the target daemon alone;
        restore exports that are left.

        The watch ends when the backend looks after its exports itself and none is left to restore.
        """
        # The messages that were logged since all was well, so that they are not logged at each try.
        told_of_loss, told = False, ""
        while not stop.is_set():
            try:
                intact = provider.exports_intact()
                if intact is None and not unrestored:
                    return
                if intact is False:
                    if not told_of_loss:
                        log.warning("storage: backend %s has lost exports; restoring them", name)
                    told_of_loss = True
                    unrestored = when_up(name)
                else:
                    told_of_loss = False
                told = ""
            except StorageError as error:  # the daemon is still down
                if told != str(error):
                    log.error("storage: backend %s: %s", name, error)
                told = str(error)
                unrestored = True  # perhaps: the recovery may have been cut off
            stop.wait(self._config.retry_interval)
            if unrestored and not stop.is_set():
                unrestored = restore(name)

    def _look_again(self, backend: Backend, provider: Provider, stop: threading.Event) -> None:
        """Ask the array every ``retry_interval`` seconds whether it still answers, as Cinder's
        manager does. A driver that hangs holds up this thread alone.
        """
        told = ""
        while not stop.wait(self._config.retry_interval):
            name = backend.entry.name
            try:
                provider.stats()
            except Exception as exc:  # of a driver: the thread must go on
                error = as_storage_error(exc, f"a look at backend {name!r}")
                text = f"backend {name!r} is down: {error.message}"
                if text != told:
                    log.error("storage: %s", text)
                told = text
                self._record(backend, "down", error=f"{error.code}: {text}")
            else:
                if told:
                    log.warning("storage: backend %s is up again", name)
                told = ""
                self._record(backend, "up", capabilities=provider.capabilities())

    def _record(self, backend: Backend, state: str, *, error: str = "", capabilities: frozenset[Capability] = frozenset()) -> None:
        name = backend.entry.name
        backend.saw(Look(state=state, error=error, capabilities=capabilities, checked=time.time()))
        try:
            self._catalog.set_backend_state(name, state, error=error, capabilities=capabilities)
        except Exception as fault:
            as_storage_error(fault, f"recording the state of backend {name!r}")

    def _make(self, entry: BackendEntry) -> Provider:
        from ...providers.registry import find_provider

        state_dir = os.path.join(self._config.state_dir, "backends", entry.name)
        os.makedirs(state_dir, mode=0o700, exist_ok=True)
        provider: type[Provider] = find_provider(entry.provider)
        return provider(
            BackendConfig(
                name=entry.name,
                options=entry.options,
                state_dir=state_dir,
                database=self._config.metadata_database,
                zoning=self._config.zoning,
            )
        )
