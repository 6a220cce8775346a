"""The tables of the catalog.

Their names begin with ``storage_``, so that cinderlib's metadata, which has tables ``volumes`` and
``snapshots``, can live in the same database. Every look-up of the service has an index.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    Double,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)
from sqlalchemy.dialects import mysql
from sqlalchemy.types import TypeDecorator

#: Raised when the tables change; a catalog of another version is refused.
SCHEMA_VERSION = 1

metadata = MetaData()


class _Utf8(TypeDecorator[str]):
    """Text as the bytes of its UTF-8."""

    impl = mysql.VARBINARY
    cache_ok = True

    def process_bind_param(self, value: str | None, _dialect: Any) -> bytes | None:
        """Return the value for the database."""
        return None if value is None else value.encode()

    def process_result_value(self, value: bytes | None, _dialect: Any) -> str | None:
        """Return the text for a value of the database."""
        return None if value is None else bytes(value).decode()


# Names are compared byte by byte everywhere. By default MySQL ignores case and, with most binary
# collations, blanks at the end; PostgreSQL orders by a language.
_name = String(255).with_variant(_Utf8(255), "mysql", "mariadb").with_variant(String(255, collation="C"), "postgresql")
_text = String(255).with_variant(mysql.VARCHAR(255, charset="utf8mb4"), "mysql", "mariadb")
_id = String(36)
_blob = LargeBinary().with_variant(mysql.LONGBLOB(), "mysql", "mariadb")

meta = Table("storage_meta", metadata, Column("key", String(32), primary_key=True), Column("value", String(255), nullable=False))

volumes = Table(
    "storage_volumes",
    metadata,
    Column("id", _id, primary_key=True),
    Column("owner", _name, nullable=False),
    Column("name", _name, nullable=False),
    Column("backend", _name, nullable=False),
    Column("size", Integer, nullable=False),
    Column("requested", Integer),
    Column("state", String(16), nullable=False),
    Column("source", JSON),
    Column("type", _name),
    Column("labels", JSON, nullable=False, default=dict),
    Column("description", _text, nullable=False, default=""),
    Column("protected", Boolean, nullable=False, default=False),
    Column("retain", Boolean, nullable=False, default=False),
    Column("formatted", Boolean, nullable=False, default=False),
    Column("encrypted", Boolean, default=False),
    Column("created", Double, nullable=False),
    Column("error", Text, nullable=False, default=""),
    UniqueConstraint("owner", "name", name="storage_volumes_identity"),
    Index("storage_volumes_backend", "backend", "owner", "name"),
    Index("storage_volumes_state", "state"),
)

# The labels of volumes once more, for look-ups; written with the volume's row.
labels = Table(
    "storage_labels",
    metadata,
    Column("volume_id", _id, primary_key=True),
    Column("key", _name, primary_key=True),
    Column("value", _name, nullable=False),
    Index("storage_labels_value", "key", "value", "volume_id"),
)

snapshots = Table(
    "storage_snapshots",
    metadata,
    Column("id", _id, primary_key=True),
    Column("owner", _name, nullable=False),
    Column("name", _name, nullable=False),
    Column("volume_id", _id, nullable=False),
    Column("volume", _name, nullable=False),
    Column("backend", _name, nullable=False),
    Column("size", Integer, nullable=False),
    Column("encrypted", Boolean, default=False),
    Column("state", String(16), nullable=False),
    Column("created", Double, nullable=False),
    Column("error", Text, nullable=False, default=""),
    Column("frozen", Boolean, default=False),
    Column("series", _name, nullable=False, default=""),
    UniqueConstraint("owner", "name", name="storage_snapshots_identity"),
    Index("storage_snapshots_volume", "volume_id"),
    Index("storage_snapshots_state", "state"),
)

connections = Table(
    "storage_connections",
    metadata,
    Column("id", _id, primary_key=True),
    Column("volume_id", _id, nullable=False),
    Column("owner", _name, nullable=False),
    Column("volume", _name, nullable=False),
    Column("host", _name, nullable=False),
    Column("size", Integer, nullable=False),
    Column("state", String(16), nullable=False),
    Column("read_only", Boolean, nullable=False, default=False),
    Column("mounts", Boolean, nullable=False, default=False),
    Column("created", Double, nullable=False),
    Column("connector", JSON, nullable=False),
    UniqueConstraint("volume_id", "host", name="storage_connections_identity"),
    Index("storage_connections_host", "host"),
    Index("storage_connections_state", "state", "volume_id"),
    Index("storage_connections_owner", "owner", "volume", "host"),
)

fences = Table(
    "storage_fences",
    metadata,
    Column("id", _id, primary_key=True),
    Column("volume_id", _id, nullable=False),
    Column("attached_id", _id, nullable=False),
    Column("owner", _name, nullable=False),
    Column("volume", _name, nullable=False),
    Column("host", _name, nullable=False),
    Column("created", Double, nullable=False),
    UniqueConstraint("volume_id", "host", name="storage_fences_identity"),
    Index("storage_fences_host", "host", "volume_id"),
)

initiators = Table(
    "storage_initiators",
    metadata,
    Column("id", _id, primary_key=True),
    Column("kind", String(16), nullable=False),
    Column("value", _name, nullable=False),
    Column("minion", _name, nullable=False),
    Column("created", Double, nullable=False),
    UniqueConstraint("value", "kind", name="storage_initiators_identity"),
    Index("storage_initiators_minion", "minion"),
)

moves = Table(
    "storage_moves",
    metadata,
    Column("id", _id, primary_key=True),
    Column("owner", _name, nullable=False),
    Column("name", _name, nullable=False),
    Column("state", String(16), nullable=False),
    Column("source_id", _id, nullable=False),
    Column("source_backend", _name, nullable=False),
    Column("target_id", _id, nullable=False),
    Column("target_backend", _name, nullable=False),
    Column("size", Integer, nullable=False),
    Column("host", _name, nullable=False),
    Column("created", Double, nullable=False),
    Column("error", Text, nullable=False, default=""),
    Column("connector", JSON, nullable=False),
    Index("storage_moves_identity", "owner", "name"),
)

reservations = Table(
    "storage_reservations",
    metadata,
    Column("id", _id, primary_key=True),
    Column("volume_id", _id, nullable=False),
    Column("backend", _name, nullable=False),
    Column("pool", _name, nullable=False),
    Column("gib", Integer, nullable=False),
    Column("created", Double, nullable=False),
    Column("finished", Double),
    Index("storage_reservations_backend", "backend"),
)

requests = Table(
    "storage_requests",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("minion", _name, nullable=False),
    Column("op", String(64), nullable=False),
    Column("digest", String(128), nullable=False),
    Column("engine", _id, nullable=False),
    Column("received", Double, nullable=False),
    Column("finished", Double),
    # Sealed for the minion that asked: the journal holds no secret in the clear.
    Column("reply", _blob),
    Index("storage_requests_received", "received"),
    Index("storage_requests_minion", "minion", "finished"),
)

backends = Table(
    "storage_backends",
    metadata,
    Column("name", _name, primary_key=True),
    Column("state", String(16), nullable=False),
    Column("error", Text, nullable=False, default=""),
    Column("capabilities", JSON, nullable=False),
    Column("checked", Double, nullable=False),
)
