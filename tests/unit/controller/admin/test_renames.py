"""A backend that has another name in the configuration, and two names of one storage: real files,
catalog and metadata.
"""

from __future__ import annotations

import copy
import sqlite3

import pytest

from saltstorage import errors
from saltstorage.controller.service import Service

CONNECTOR = {"host": "web1", "ip": "192.0.2.1", "multipath": False}


@pytest.fixture
def renamed(opts, service, metadata_dir):
    """The controller after its backend ``local`` became ``fast disks``, with a volume that is
    connected and has a snapshot.
    """
    for name in ("data", "other"):
        service.execute("create", {"name": name, "size": 1}, "web1")
    service.execute("snapshot_create", {"name": "cut", "volume": "data"}, "web1")
    service.execute("connect", {"name": "data", "connector": CONNECTOR}, "web1")
    service.close()
    changed = copy.deepcopy(opts)
    changed["storage"]["backends"] = {"fast disks": changed["storage"]["backends"]["local"]}
    found = Service(changed)
    yield found
    found.close()


def hosts(metadata_dir, service) -> set[str]:
    ids = [volume.id for volume in service.catalog.volumes()]
    with sqlite3.connect(metadata_dir / "cinderlib.sqlite") as database:
        rows = database.execute("SELECT id, host FROM volumes").fetchall()
    return {host for row_id, host in rows if row_id in ids}


def test_b10_a_renamed_backend_keeps_its_volumes(renamed, metadata_dir, files):
    [finding] = renamed.check().findings(kinds="lost_backend")
    assert (finding.backend, "2 volumes are on it" in finding.text) == ("local", True)
    assert "salt-run storage.rename_backend local NEW" in finding.text
    with pytest.raises(errors.FailedPreconditionError, match="'local' is not in .* any more.*storage.rename_backend"):
        renamed.execute("extend", {"name": "data", "size": 2}, "web1")
    told = renamed.renames.rename(old="local", new="fast disks")
    assert [(row["name"], row["backend"], row["done"]) for row in told] == [("data", "fast disks", False), ("other", "fast disks", False)]
    assert renamed.catalog.volumes(backend="local")
    before = files()
    done = renamed.renames.rename(old="local", new="fast disks", apply=True)
    assert [row["done"] for row in done] == [True, True]
    assert files() == before
    assert renamed.catalog.volumes(backend="local") == []
    assert {s.backend for s in renamed.catalog.snapshots()} == {"fast disks"}
    assert hosts(metadata_dir, renamed) == {"saltstorage@storage_fast%20disks#storage_fast%20disks"}
    assert [f.kind for f in renamed.check().findings()] == ["unattached"]
    renamed.execute("extend", {"name": "other", "size": 2}, "web1")
    renamed.execute("disconnect", {"name": "data"}, "web1")
    renamed.execute("snapshot_delete", {"name": "cut"}, "web1")
    for name in ("data", "other"):
        renamed.execute("delete", {"name": name}, "web1")
    assert files() == []


def test_a_rename_that_was_cut_off_goes_on(renamed, monkeypatch):
    provider = renamed.core.provider("fast disks")
    real, asked = provider.take_metadata, []

    def fail_at_the_second(volume, former):
        asked.append(volume.id)
        if len(asked) == 2:
            raise errors.UnavailableError("the database is away")
        real(volume, former)

    monkeypatch.setattr(provider, "take_metadata", fail_at_the_second)
    with pytest.raises(errors.UnavailableError):
        renamed.renames.rename(old="local", new="fast disks", apply=True)
    assert len(renamed.catalog.volumes(backend="local")) == 1
    [done] = renamed.renames.rename(old="local", new="fast disks", apply=True)
    assert done["done"] is True
    assert renamed.catalog.volumes(backend="local") == []


def test_another_storage_is_refused_unless_forced(opts, service, tmp_path):
    service.execute("create", {"name": "data", "size": 1}, "web1")
    service.close()
    opts["storage"]["backends"] = {"fast": {**opts["storage"]["backends"]["local"], "file_driver_path": str(tmp_path / "empty")}}
    other = Service(opts)
    try:
        with pytest.raises(errors.FailedPreconditionError, match=r"does not list 1 of the 1 volumes of 'local': 'data' of web1"):
            other.renames.rename(old="local", new="fast", apply=True)
        assert other.catalog.volumes(backend="local")
        [done] = other.renames.rename(old="local", new="fast", force=True, apply=True)
        assert done["done"] is True
    finally:
        other.close()


@pytest.mark.parametrize(
    ("args", "error", "words"),
    [
        ({"old": "fast disks", "new": "fast disks"}, errors.InvalidArgumentError, "'fast disks' is still configured"),
        ({"old": "local", "new": "fst"}, errors.InvalidArgumentError, "backend 'fst' is not configured"),
        ({"old": "locl", "new": "fast disks"}, errors.NotFoundError, "recorded and not configured: local"),
        ({"old": "local", "new": "fast disks", "apply": "yes please"}, errors.InvalidArgumentError, "apply"),
    ],
)
def test_wrong_names(renamed, args, error, words):
    with pytest.raises(error, match=words):
        renamed.renames.rename(**args)
    assert len(renamed.catalog.volumes(backend="local")) == 2


def test_files_of_exports_go_along(renamed, tmp_path, monkeypatch):
    provider = renamed.core.provider("fast disks")
    folder = tmp_path / "exports"
    (folder / "storage_local").mkdir(parents=True)
    (folder / "storage_local" / "volume-1.conf").write_text("old")
    monkeypatch.setattr(type(provider.driver.configuration), "safe_get", lambda _self, name: str(folder) if name == "volumes_dir" else None)
    provider.take_state("local")
    provider.take_state("local")
    assert (folder / "storage_fast%20disks" / "volume-1.conf").read_text() == "old"


@pytest.fixture
def twins(opts, tmp_path):
    """A controller with two backends over one folder."""
    own = opts["storage"]["backends"]["local"]
    opts["storage"] |= {"backends": {"local": own, "twin": dict(own)}, "default_backend": "local"}
    found = Service(opts)
    yield found
    found.close()


def test_b10_no_volume_is_taken_over_twice(twins, files):
    volume = twins.execute("create", {"name": "data", "size": 1}, "web1")["volume"]
    for reference in (f"volume-{volume['id']}", {"source-name": f"volume-{volume['id']}"}):
        with pytest.raises(errors.AlreadyExistsError, match="is volume 'data' of web1 already, on backend 'local'"):
            twins.adoption.manage(name="again", owner="db1", reference=reference, backend="twin")
    assert files() == [f"volume-{volume['id']}"]
    assert [v.name for v in twins.catalog.volumes()] == ["data"]


def test_b10_two_backends_over_one_storage_are_named(twins):
    twins.execute("create", {"name": "data", "size": 1}, "web1")
    [finding] = twins.check().findings(kinds="same_storage")
    assert (finding.name, finding.backend) == ("data", "twin")
    assert "two backends over one storage" in finding.text
    assert twins.repair().run(apply=True) == []
