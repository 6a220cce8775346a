"""The configured backends of one process: loaded once, kept, and tried again when they are down."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ..errors import FailedPreconditionError, InternalError, InvalidArgumentError, StorageError, UnavailableError
from .catalog import Catalog
from .config import BackendEntry, ControllerConfig
from .providers.base import BackendConfig, Provider

log = logging.getLogger(__name__)

#: How long a caller waits for a backend that is being loaded, seconds. Arrays with many LUNs take minutes.
LOAD_TIMEOUT = 120


class Backend:
    """One backend and whether it is up."""

    def __init__(self, entry: BackendEntry, make: Callable[[BackendEntry], Provider], retry_interval: float) -> None:
        self.entry = entry
        self._make = make
        self._retry_interval = retry_interval
        self._lock = threading.Lock()
        self._provider: Provider | None = None
        self._tried = 0.0
        self.error: StorageError | None = None

    def provider(self) -> Provider:
        """Return the loaded provider, loading it first when that was not done or failed some time ago.

        :raises StorageError: it cannot be loaded; the same error is raised without a new try until ``retry_interval`` has passed.
        """
        if self._provider is not None:
            return self._provider
        if not self._lock.acquire(timeout=LOAD_TIMEOUT):
            raise UnavailableError(f"backend {self.entry.name!r} is still being loaded; try again later")
        try:
            if self._provider is None:
                if self.error is not None and time.monotonic() - self._tried < self._retry_interval:
                    raise self.error
                self._provider = self._load()
            return self._provider
        finally:
            self._lock.release()

    def loaded(self) -> Provider | None:
        """Return the provider when it is loaded, else None; never loads."""
        return self._provider

    def _load(self) -> Provider:
        try:
            provider = self._make(self.entry)
            provider.load()
        except StorageError as error:
            # What the user asked for was right; a wrong option of the backend is a fault of the controller.
            cls = FailedPreconditionError if isinstance(error, InvalidArgumentError) else type(error)
            raise self._failed(cls(f"backend {self.entry.name!r} is down: {error.message}")) from None
        except Exception as error:
            log.exception("storage: backend %s could not be loaded", self.entry.name)
            text = f"backend {self.entry.name!r} is down: {type(error).__name__}; the controller's log has the details"
            raise self._failed(InternalError(text)) from error
        self.error = None
        return provider

    def _failed(self, error: StorageError) -> StorageError:
        self.error = error
        self._tried = time.monotonic()
        log.error("storage: %s", error)
        return error


class Backends(Mapping[str, Backend]):
    """All configured backends by name."""

    def __init__(self, config: ControllerConfig, catalog: Catalog) -> None:
        self._config = config
        self._catalog = catalog
        self._backends = {name: Backend(entry, self._make, config.retry_interval) for name, entry in config.backends.items()}

    def __getitem__(self, name: str) -> Backend:
        return self._backends[name]

    def __iter__(self) -> Any:
        return iter(self._backends)

    def __len__(self) -> int:
        return len(self._backends)

    def provider(self, name: str) -> Provider:
        """Return the loaded provider of a backend.

        :raises FailedPreconditionError: the backend is not configured any more, although a volume is on it.
        :raises StorageError: as :meth:`Backend.provider`.
        """
        backend = self._backends.get(name)
        if backend is None:
            raise FailedPreconditionError(f"backend {name!r} is not in the controller's configuration any more; configure it again")
        return backend.provider()

    def watch(self, when_up: Callable[[str], None], stop: threading.Event) -> list[threading.Thread]:
        """Load every backend in a thread of its own, try again while it is down, and record its state in the catalog.

        :param when_up: called with the backend's name once it is up.
        :param stop: set to end the threads.
        """
        threads = [
            threading.Thread(target=self._watch, args=(backend, when_up, stop), name=f"storage-{name}", daemon=True)
            for name, backend in self._backends.items()
        ]
        for thread in threads:
            thread.start()
        return threads

    def close(self, names: Iterable[str] | None = None) -> None:
        """Close the providers that are loaded."""
        for name in names if names is not None else self._backends:
            provider = self._backends[name].loaded()
            if provider is not None:
                provider.close()

    def _watch(self, backend: Backend, when_up: Callable[[str], None], stop: threading.Event) -> None:
        name = backend.entry.name
        while not stop.is_set():
            try:
                provider = backend.provider()
                self._catalog.set_backend_state(name, "up", capabilities=provider.capabilities())
                log.info("storage: backend %s is up", name)
                when_up(name)
                return
            except StorageError as error:
                try:
                    self._catalog.set_backend_state(name, "down", error=str(error))
                except Exception:
                    log.exception("storage: the state of backend %s could not be recorded", name)
            except Exception:
                log.exception("storage: backend %s came up, but what was half done on it could not be finished", name)
                return
            stop.wait(self._config.retry_interval)

    def _make(self, entry: BackendEntry) -> Provider:
        from .providers.registry import find_provider

        state_dir = os.path.join(self._config.state_dir, "backends", entry.name)
        os.makedirs(state_dir, mode=0o700, exist_ok=True)
        provider: type[Provider] = find_provider(entry.provider)
        return provider(
            BackendConfig(
                name=entry.name,
                options=entry.options,
                state_dir=state_dir,
                database=self._config.metadata_database,
                root_helper=self._config.root_helper,
            )
        )
