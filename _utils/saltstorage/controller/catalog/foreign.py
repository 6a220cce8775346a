"""Reads the database of another cinderlib, of any version of Cinder: it needs only columns that
all versions have.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any

from ...errors import FailedPreconditionError, InvalidArgumentError, UnavailableError

_TABLES = ("volumes", "snapshots", "volume_metadata", "volume_admin_metadata", "volume_attachment")


@dataclass
class ForeignVolume:
    """One volume of the other database, with all that belongs to it.

    :ivar values: its row.
    :ivar snapshots: the rows of its snapshots.
    :ivar connected: whether a host is connected to it.
    """

    values: dict[str, Any]
    metadata: dict[str, str] = field(default_factory=dict)
    admin_metadata: dict[str, str] = field(default_factory=dict)
    snapshots: list[dict[str, Any]] = field(default_factory=list)
    connected: bool = False

    @property
    def backend(self) -> str:
        """Name of the backend in the other database."""
        return str(self.values["host"] or "").rpartition("@")[2].partition("#")[0]


def check_url(text: Any, *, own: str, may_have_password: bool) -> str:
    """Return the URL of another cinderlib's database when it can be one.

    :param own: URL of this controller's own metadata.
    :raises InvalidArgumentError: it is no URL, has a password, or is that of this controller or of
        no file.
    """
    import sqlalchemy
    from sqlalchemy import exc

    try:
        parsed = sqlalchemy.make_url(text)
    except (exc.ArgumentError, TypeError, ValueError):
        # The text of the error may hold a password.
        raise InvalidArgumentError("url is not an SQLAlchemy URL, such as sqlite:////var/lib/cinderlib.sqlite", field="url") from None
    if parsed.password is not None and not may_have_password:
        raise InvalidArgumentError("url has a password, which Salt would keep in its job cache; put it into an sdb:// URI", field="url")
    if parsed == sqlalchemy.make_url(own):
        raise InvalidArgumentError("url is this controller's own database", field="url")
    if parsed.get_backend_name() == "sqlite" and not os.path.isfile(parsed.database or ""):
        raise InvalidArgumentError(f"there is no database {parsed.database}", field="url")
    return parsed.render_as_string(hide_password=False)


def read_volumes(url: str) -> list[ForeignVolume]:
    """Return the volumes in another cinderlib's database, by name and id.

    :raises FailedPreconditionError: the database's Python driver is not installed.
    :raises InvalidArgumentError: the database is not one of cinderlib.
    :raises UnavailableError: the database cannot be read.
    """
    import sqlalchemy
    from sqlalchemy import exc

    try:
        engine = sqlalchemy.create_engine(url, hide_parameters=True)
    except (exc.NoSuchModuleError, ModuleNotFoundError):
        raise FailedPreconditionError("the Python driver of that database is not installed on the controller", field="url") from None
    try:
        with engine.connect() as connection:
            tables = sqlalchemy.MetaData()
            tables.reflect(connection, only=lambda name, _: name in _TABLES)
            missing = set(_TABLES) - set(tables.tables)
            if missing:
                raise InvalidArgumentError(f"the database is none of cinderlib: it has no table {', '.join(sorted(missing))}", field="url")

            def read(name: str) -> list[dict[str, Any]]:
                return [dict(r) for r in connection.execute(tables.tables[name].select()).mappings() if not r.get("deleted")]

            found = {str(values["id"]): ForeignVolume(values=values) for values in read("volumes")}
            for name, key in (("volume_metadata", "metadata"), ("volume_admin_metadata", "admin_metadata")):
                for item in read(name):
                    if item["volume_id"] in found:
                        getattr(found[item["volume_id"]], key)[item["key"]] = item["value"]
            for item in read("snapshots"):
                if item["volume_id"] in found:
                    found[item["volume_id"]].snapshots.append(item)
            for item in read("volume_attachment"):
                if item["volume_id"] in found:
                    found[item["volume_id"]].connected = True
    except exc.SQLAlchemyError as error:
        raise UnavailableError(f"the database cannot be read: {type(error).__name__}") from None
    finally:
        engine.dispose()
    return sorted(found.values(), key=lambda row: (str(row.values["display_name"] or ""), str(row.values["id"])))
