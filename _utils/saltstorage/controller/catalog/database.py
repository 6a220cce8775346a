"""Opening the catalog's database: SQLite with the settings that make it safe here, or any URL that SQLAlchemy knows."""

from __future__ import annotations

import contextlib
import os
import time
import zlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ...errors import FailedPreconditionError, InvalidArgumentError, UnavailableError

if TYPE_CHECKING:
    from sqlalchemy.engine import Engine

#: How long a writer waits for another process's transaction, seconds.
BUSY_TIMEOUT = 30
#: How long one process waits for another that makes tables or brings them to a new version, seconds.
ALONE_TIMEOUT = 300
_PAUSE = 0.1
#: Locks of the database itself, which end with the connection. SQLite needs none: its file is one host's, and its writers wait.
_TRY_LOCK = {
    "postgresql": "SELECT pg_try_advisory_lock(:key)",
    "mysql": "SELECT GET_LOCK(CONCAT('saltstorage-', :key), 0)",
    "mariadb": "SELECT GET_LOCK(CONCAT('saltstorage-', :key), 0)",
}


def open_database(url: str) -> Engine:
    """Return an engine for the catalog at ``url`` with its tables in place.

    An SQLite file is created with mode 0600 in a directory of mode 0700.

    :raises InvalidArgumentError: the URL cannot be understood, or its Python driver is not installed.
    :raises UnavailableError: the database does not answer.
    :raises FailedPreconditionError: the file cannot be written, the tables cannot be made, or the catalog is of another version of the
        project.
    """
    import sqlalchemy
    from sqlalchemy import exc

    try:
        parsed = sqlalchemy.make_url(url)
        sqlite = parsed.get_backend_name() == "sqlite"
        if sqlite:
            _make_private(parsed.database)
        engine = sqlalchemy.create_engine(
            parsed,
            pool_pre_ping=not sqlite,
            # The texts of errors would show the values of statements, and logs have those.
            hide_parameters=True,
            connect_args={"timeout": BUSY_TIMEOUT} if sqlite else {},
        )
    except (exc.ArgumentError, exc.NoSuchModuleError, ModuleNotFoundError):
        # The text of the error may hold the URL, and that a password.
        raise InvalidArgumentError(
            "storage:database is not an SQLAlchemy URL, or its Python driver is not installed", field="storage:database"
        ) from None
    if sqlite:
        _prepare_sqlite(engine)
    try:
        with alone(url, "catalog"):
            _make_tables(engine)
    except exc.OperationalError as error:
        raise UnavailableError(f"the catalog's database does not answer: {type(error.orig).__name__}: {error.orig}") from None
    except exc.ProgrammingError as error:
        raise FailedPreconditionError(
            f"the catalog's tables cannot be made or read; its database says {type(error.orig).__name__}: {error.orig}"
        ) from None
    return engine


@contextlib.contextmanager
def alone(url: str, what: str) -> Iterator[None]:
    """Keep other processes that say the same, on other hosts too, from working on the tables of a database meanwhile.

    :param url: SQLAlchemy URL of the database.
    :param what: what the tables are for: those of the catalog and of cinderlib's metadata do not wait for each other.
    :raises UnavailableError: another one has been at it for ``ALONE_TIMEOUT`` seconds.

    >>> with alone("postgresql+psycopg://storage@db/storage", "catalog"):
    ...     make_tables()
    """
    import sqlalchemy
    from sqlalchemy.pool import NullPool

    parsed = sqlalchemy.make_url(url)
    statement = _TRY_LOCK.get(parsed.get_backend_name())
    if statement is None:
        yield
        return
    # MySQL's locks are the whole server's, so that the name of the database belongs to the key.
    key = zlib.crc32(f"saltstorage {parsed.database} {what}".encode())
    engine = sqlalchemy.create_engine(parsed, poolclass=NullPool, hide_parameters=True, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        deadline = time.monotonic() + ALONE_TIMEOUT
        while not connection.execute(sqlalchemy.text(statement), {"key": key}).scalar():
            if time.monotonic() > deadline:
                raise UnavailableError(f"another process has been making tables of the {what} for {ALONE_TIMEOUT} seconds; try again later")
            time.sleep(_PAUSE)
        yield


def _make_tables(engine: Engine) -> None:
    """Make the tables that are missing; all of them or none.

    :raises FailedPreconditionError: the catalog is of another version of the project.
    """
    import sqlalchemy

    from . import schema

    with engine.begin() as connection:
        schema.metadata.create_all(connection)
        found = connection.execute(sqlalchemy.select(schema.meta.c.value).where(schema.meta.c.key == "schema")).scalar()
        if found is None:
            connection.execute(schema.meta.insert().values(key="schema", value=str(schema.SCHEMA_VERSION)))
        elif found != str(schema.SCHEMA_VERSION):
            raise FailedPreconditionError(
                f"the catalog has schema version {found}, this release needs {schema.SCHEMA_VERSION}; run the release that wrote it"
            )


def _make_private(path: str | None) -> None:
    if not path or path == ":memory:":
        raise InvalidArgumentError("storage:database must be a file: the catalog has to survive a restart", field="storage:database")
    try:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise FailedPreconditionError(f"the catalog {path} cannot be written: {error.strerror}; check storage:state_dir") from None


def _prepare_sqlite(engine: Engine) -> None:
    from sqlalchemy import event

    @event.listens_for(engine, "connect")
    def _connect(connection: Any, _record: Any) -> None:
        # Transactions are begun by _begin, not by the driver's guess.
        connection.isolation_level = None
        connection.execute("PRAGMA journal_mode=WAL")
        # An intent must be on the disk before the array is asked: with NORMAL, a power cut could lose it.
        connection.execute("PRAGMA synchronous=FULL")

    @event.listens_for(engine, "begin")
    def _begin(connection: Any) -> None:
        # A reader that turns writer in the middle fails at once when another wrote; taking the write lock first waits instead.
        connection.exec_driver_sql("BEGIN IMMEDIATE")
