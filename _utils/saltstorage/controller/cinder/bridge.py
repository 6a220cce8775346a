"""Runs cinderlib on current Cinder, inside a process that belongs to Salt.

cinderlib 5.2.0, its last release, was written for Cinder up to 23. Since then Cinder moved
``cinder.db.sqlalchemy.{api,models}`` to ``cinder.db.{api,models}`` and dropped the ``DBAPI``
indirection from ``cinder.db.api``. :func:`setup` restores both before cinderlib's persistence is
imported.

cinderlib also behaves as if the process were its own: it disables all loggers, turns TLS warnings
off, edits the rootwrap files of a virtual environment and leaves an import hook that fakes
packages such as ``jsonschema`` for everybody. Here none of that reaches the rest of the process.

Nothing is imported or set up before a backend is loaded, so a forked child of a process that only
reads has nothing to undo.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib
import importlib.util
import logging
import os
import sys
import threading
import types
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ... import imports
from ...errors import FailedPreconditionError
from ..catalog.database import lock_tables, prepare_file
from . import logs
from .option_data import DELEGATES

log = logging.getLogger(__name__)

#: The part before ``@`` in Cinder's ``host``: the same on every master, so that all see the same
#: volumes.
HOST = "saltstorage"

_lock = threading.RLock()
_done: str | None = None
_fakes: dict[str, types.ModuleType] = {}


def setup(database_url: str, state_dir: str) -> type[Any]:
    """Set cinderlib up for this process and return its ``Backend`` class. Later calls return the
    same.

    :param database_url: SQLAlchemy URL for cinderlib's metadata; an SQLite file is created with
        mode 0600.
    :param state_dir: directory for locks and for files of target helpers, created with mode 0700;
        later calls do not change it.
    :raises FailedPreconditionError: cinderlib or Cinder is not installed, or an earlier call had
        other parameters.

    >>> state = "/var/lib/salt-storage/controller"
    >>> Backend = setup(f"sqlite:///{state}/cinderlib.sqlite", state)  # doctest: +SKIP
    """
    global _done
    with _lock:
        if _done is None:
            Path(state_dir).mkdir(mode=0o700, parents=True, exist_ok=True)
            locks = Path(state_dir, "locks", "cinder")
            locks.mkdir(mode=0o700, parents=True, exist_ok=True)
            backend_class = load()
            url = prepare_file(database_url)
            from .backend import DBPersistence

            # Two processes that migrate one database at once would collide. They may run on two
            # hosts, if the database is no file.
            with quiet(), fake_packages(), _exclusive(locks / "setup.lock"), lock_tables(url, "metadata"):
                backend_class.global_setup(
                    file_locks_path=str(locks),
                    root_helper="",
                    suppress_requests_ssl_warnings=False,
                    disable_logs=False,
                    persistence_config={"storage": DBPersistence, "connection": url},
                    host=HOST,
                    state_path=str(state_dir),
                )
            _done = database_url
            os.register_at_fork(after_in_child=_forget_connections)
        elif _done != database_url:
            raise FailedPreconditionError("all backends of a process must share one metadata database")
        from .backend import Backend

        return Backend


def load() -> type[Any]:
    """Import Cinder and cinderlib, adapted to each other, and return the ``Backend`` class; set
    nothing up yet.

    :raises FailedPreconditionError: a package is missing.
    """
    with _lock, quiet(), fake_packages():
        try:
            _prefer_threads()
            imports.eventlet()
            _restore_moved_modules()
            from .backend import Backend
        except ModuleNotFoundError as error:
            raise FailedPreconditionError(
                f"the Python package {str(error.name).partition('.')[0]!r} is not installed on the controller; "
                "install the requirements of the cinderlib provider"
            ) from error
        return Backend


def import_driver_module(name: str) -> types.ModuleType:
    """Import a module of a driver under the same conditions as cinderlib itself, and with it the
    modules that it would import later by name.
    """
    load()
    with _lock, quiet(), fake_packages():
        module = importlib.import_module(name)
        for user, names in DELEGATES.items():
            for delegate in names if user in sys.modules else ():
                importlib.import_module(delegate)
        return module


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep imports and setups inside from changing the process: loggers, warnings, environment,
    exception hook.

    Only while ``_lock`` is held: two threads at once would restore a wrong state.
    """
    state = logs.LoggingState()
    hook = sys.excepthook
    greendns = os.environ.get("EVENTLET_NO_GREENDNS")
    with warnings.catch_warnings():
        # Deprecation warnings of libraries that meet newer libraries: an operator can do nothing
        # about them.
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            sys.excepthook = hook
            if greendns is None:
                os.environ.pop("EVENTLET_NO_GREENDNS", None)
            state.restore()
            logs.tame()


@contextlib.contextmanager
def fake_packages() -> Iterator[None]:
    """Let cinderlib's stand-ins be found for packages that drivers import but never call; inside
    only, while ``_lock`` is held.

    They save a second and 15 MB. cinderlib leaves them in place for good, so that a later ``import
    jsonschema`` anywhere in the process would get a stand-in.
    """
    faker = _load_faker()
    if faker in sys.meta_path:  # nested
        yield
        return
    for name, module in _fakes.items():
        sys.modules.setdefault(name, module)
    sys.meta_path.insert(0, faker)
    try:
        yield
    finally:
        sys.meta_path.remove(faker)
        for name in faker.faked_modules:
            found = sys.modules.get(name)
            if found is not None and getattr(found, "__loader__", None) is faker:
                _fakes[name] = sys.modules.pop(name)


def _load_faker() -> Any:
    """Return cinderlib's import hook without importing cinderlib, which would import all of Cinder
    before the hook is there.
    """
    name = "cinderlib._fake_packages"
    if name not in sys.modules:
        package = importlib.util.find_spec("cinderlib")
        if package is None or not package.submodule_search_locations:
            raise FailedPreconditionError(
                "the Python package 'cinderlib' is not installed on the controller; install the requirements of the cinderlib provider"
            )
        path = Path(package.submodule_search_locations[0], "_fake_packages.py")
        spec = importlib.util.spec_from_file_location(name, path)
        if spec is None or spec.loader is None:
            raise FailedPreconditionError(f"cinderlib is not installed as files: {path} cannot be loaded")
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
        sys.meta_path.remove(module.faker)
        # A package that is loaded is real; fakes of further modules of it would mix the two.
        module.faker.packages = [package for package in module.faker.packages if package not in sys.modules]
    return sys.modules[name].faker


def _restore_moved_modules() -> None:
    """Give cinderlib the names that Cinder had when it was written."""
    import cinder.db.api
    import cinder.db.models

    if "cinder.db.sqlalchemy" not in sys.modules and importlib.util.find_spec("cinder.db.sqlalchemy") is None:
        package = types.ModuleType("cinder.db.sqlalchemy")
        package.__path__ = []
        package.api = cinder.db.api  # type: ignore[attr-defined]
        package.models = cinder.db.models  # type: ignore[attr-defined]
        sys.modules["cinder.db.sqlalchemy"] = package
        sys.modules["cinder.db.sqlalchemy.api"] = cinder.db.api
        sys.modules["cinder.db.sqlalchemy.models"] = cinder.db.models
    if not hasattr(cinder.db.api, "_BACKEND_MAPPING"):
        # oslo.db's DBAPI imports the module of the mapping, calls get_backend() in it, and passes
        # calls on to the result.
        cinder.db.api._BACKEND_MAPPING = {"sqlalchemy": "cinder.db.api"}
        cinder.db.api.get_backend = lambda: cinder.db.api


def _prefer_threads() -> None:
    """Make the loops of oslo.service, with which drivers wait, use threads as Salt does. Its
    default is eventlet.
    """
    from oslo_service import backend

    # cotyledon, which the threading form needs, is an extra of oslo.service.
    if importlib.util.find_spec("cotyledon") is not None:
        backend.register_backend_default_hook(lambda: backend.BackendType.THREADING)


@contextlib.contextmanager
def _exclusive(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _forget_connections() -> None:
    """Keep a forked child off the database connections of its parent."""
    api = sys.modules.get("cinder.db.api")
    if api is not None and _done is not None:
        api.get_engine().dispose(close=False)
