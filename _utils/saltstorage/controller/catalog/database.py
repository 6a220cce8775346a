"""Opens the catalog's database: SQLite with safe settings, or any URL that SQLAlchemy knows."""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import FailedPreconditionError, InvalidArgumentError, UnavailableError

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection as SqlConnection
    from sqlalchemy.engine import Engine

#: Longest wait of a writer for another process's transaction, seconds.
BUSY_TIMEOUT = 30
#: Longest wait for another process that makes tables or migrates them, seconds.
LOCK_TIMEOUT = 300
_PAUSE = 0.1
#: Locks of the database itself, which end with the connection. SQLite needs none: its file belongs
#: to one host, and its writers wait.
_TRY_LOCK = {
    "postgresql": "SELECT pg_try_advisory_lock(:key)",
    "mysql": "SELECT GET_LOCK(CONCAT('saltstorage-', :key), 0)",
    "mariadb": "SELECT GET_LOCK(CONCAT('saltstorage-', :key), 0)",
}


def open_database(url: str) -> Engine:
    """Return an engine for the catalog at ``url`` with its tables in place.

    An SQLite file is created with mode 0600 in a directory of mode 0700.

    :raises InvalidArgumentError: the URL cannot be understood, or its Python driver is not
        installed.
    :raises UnavailableError: the database does not answer.
    :raises FailedPreconditionError: the file cannot be written, the tables cannot be made, or the
        catalog is of another version of the project.
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
            # Errors and logs would show the values of statements.
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
        with lock_tables(url, "catalog"):
            _make_tables(engine)
    except exc.OperationalError as error:
        raise UnavailableError(f"the catalog's database does not answer: {type(error.orig).__name__}: {error.orig}") from None
    except exc.ProgrammingError as error:
        raise FailedPreconditionError(
            f"the catalog's tables cannot be made or read; its database says {type(error.orig).__name__}: {error.orig}"
        ) from None
    return engine


@contextlib.contextmanager
def lock_tables(url: str, what: str) -> Iterator[None]:
    """Keep other processes that use the same key, on other hosts too, away from the tables of a
    database.

    :param url: SQLAlchemy URL of the database.
    :param what: purpose of the tables, part of the key: the catalog's and those of cinderlib's
        metadata do not wait for each other.
    :raises UnavailableError: another process has held the lock for ``LOCK_TIMEOUT`` seconds.

    >>> with lock_tables("sqlite:////var/lib/salt-storage/controller/catalog.sqlite", "catalog"):
    ...     print("one at a time")
    one at a time
    """
    import sqlalchemy
    from sqlalchemy.pool import NullPool

    parsed = sqlalchemy.make_url(url)
    statement = _TRY_LOCK.get(parsed.get_backend_name())
    if statement is None:
        yield
        return
    # MySQL's locks belong to the whole server, so the name of the database is part of the key.
    key = zlib.crc32(f"saltstorage {parsed.database} {what}".encode())
    engine = sqlalchemy.create_engine(parsed, poolclass=NullPool, hide_parameters=True, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        deadline = time.monotonic() + LOCK_TIMEOUT
        while not connection.execute(sqlalchemy.text(statement), {"key": key}).scalar():
            if time.monotonic() > deadline:
                raise UnavailableError(f"another process has been making tables of the {what} for {LOCK_TIMEOUT} seconds; try again later")
            time.sleep(_PAUSE)
        yield


def prepare_file(url: str) -> str:
    """Prepare a database file of another library, such as cinderlib, and return the URL to use.

    An SQLite file is created with mode 0600, since it holds CHAP secrets, in WAL mode, and its
    writers wait for each other. Any other URL is returned as it is.
    """
    import sqlalchemy

    parsed = sqlalchemy.make_url(url)
    if parsed.get_backend_name() != "sqlite" or not parsed.database or parsed.database == ":memory:":
        return url
    path = Path(parsed.database)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    _create(path)
    with contextlib.closing(sqlite3.connect(path, timeout=BUSY_TIMEOUT)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
    if "timeout" not in parsed.query:
        parsed = parsed.update_query_dict({"timeout": str(BUSY_TIMEOUT)})
    return parsed.render_as_string(hide_password=False)


def _make_tables(engine: Engine) -> None:
    """Make the tables that are missing; all of them or none.

    :raises FailedPreconditionError: the catalog is of another version of the project.
    """
    import sqlalchemy

    from . import schema

    with engine.begin() as connection:
        schema.metadata.create_all(connection)
        _add_columns(connection)
        found = connection.execute(sqlalchemy.select(schema.meta.c.value).where(schema.meta.c.key == "schema")).scalar()
        if found is None:
            connection.execute(schema.meta.insert().values(key="schema", value=str(schema.SCHEMA_VERSION)))
        elif found != str(schema.SCHEMA_VERSION):
            raise FailedPreconditionError(
                f"the catalog has schema version {found}, this release needs {schema.SCHEMA_VERSION}; run the release that wrote it"
            )


def _add_columns(connection: SqlConnection) -> None:
    """Add the columns that an older catalog lacks; each may be empty."""
    import sqlalchemy

    from . import schema

    known = {column["name"] for column in sqlalchemy.inspect(connection).get_columns(schema.volumes.name)}
    for column in schema.volumes.columns:
        if column.name not in known:
            kind = column.type.compile(connection.dialect)
            connection.execute(sqlalchemy.text(f"ALTER TABLE {schema.volumes.name} ADD COLUMN {column.name} {kind}"))


def _create(path: str | Path) -> None:
    """Create a database file with mode 0600, unless it is there.

    A file that is there is not opened: closing it would drop the locks of this process's other
    connections (POSIX locks belong to the process), and another process would then take away the
    write-ahead log under them: https://www.sqlite.org/howtocorrupt.html, section 2.2.

    :raises OSError: it cannot be created, or this user may not write to it.
    """
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        if os.path.isdir(path):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR)) from None
        if not os.access(path, os.R_OK | os.W_OK, effective_ids=True):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES)) from None


def _make_private(path: str | None) -> None:
    if not path or path == ":memory:":
        raise InvalidArgumentError("storage:database must be a file: the catalog has to survive a restart", field="storage:database")
    try:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        _create(path)
    except OSError as error:
        raise FailedPreconditionError(f"the catalog {path} cannot be written: {error.strerror}; check storage:state_dir") from None


def _prepare_sqlite(engine: Engine) -> None:
    from sqlalchemy import event

    @event.listens_for(engine, "connect")
    def _connect(connection: Any, _record: Any) -> None:
        # _begin begins transactions, not the driver's guess.
        connection.isolation_level = None
        connection.execute("PRAGMA journal_mode=WAL")
        # An intent must be on the disk before the array is asked: with NORMAL, a power cut could
        # lose it.
        connection.execute("PRAGMA synchronous=FULL")

    @event.listens_for(engine, "begin")
    def _begin(connection: Any) -> None:
        # A reader that turns writer in the middle fails at once when another process wrote; a
        # write lock taken first waits instead.
        connection.exec_driver_sql("BEGIN IMMEDIATE")
