"""Providers of fresh backends, and the rows of their metadata."""

from __future__ import annotations

import sqlite3
import uuid

import pytest

from saltstorage.controller.cinder.provider import CinderlibProvider
from saltstorage.providers import BackendConfig

from .backends import RECORDING


@pytest.fixture
def make(metadata_dir, tmp_path):
    """Return a function that makes a provider of a fresh backend; all are closed at the end."""
    made = []

    def make(driver: str = RECORDING, *, load: bool = True, name: str = "", zoning: dict | None = None, **options) -> CinderlibProvider:
        given = {"volume_driver": driver, "file_driver_path": str(tmp_path / "volumes"), **options}
        config = BackendConfig(
            name=name or f"test-{uuid.uuid4().hex[:8]}",
            options={key: value for key, value in given.items() if value is not None},
            state_dir=str(metadata_dir / "backends" / "test"),
            database=f"sqlite:///{metadata_dir}/cinderlib.sqlite",
            zoning=zoning or {},
        )
        provider = CinderlibProvider(config)
        made.append(provider)
        if load:
            provider.load()
        return provider

    yield make
    for provider in made:
        provider.close()


@pytest.fixture
def rows(metadata_dir):
    """Return a function that counts the rows of a volume in cinderlib's tables."""

    def count(volume) -> tuple[int, int]:
        with sqlite3.connect(metadata_dir / "cinderlib.sqlite") as database:
            volumes = database.execute("SELECT count(*) FROM volumes WHERE id = ?", (volume.id,)).fetchone()[0]
            attached = database.execute("SELECT count(*) FROM volume_attachment WHERE volume_id = ?", (volume.id,)).fetchone()[0]
        return volumes, attached

    return count
