"""Arrays that refuse, talk nonsense, are silent or full: the error that the administrator reads,
with the vendor's real driver and a real connection.
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from saltstorage.providers import BackendConfig, Provider, ProviderVolume, StorageError, find_provider
from tests.conformance.world import connector

from . import solidfire
from .backends import solidfire_options, storwize
from .https import HTTPSArray

GIB = solidfire.GIB
#: Long enough to be masked, and in no other text.
WRONG = "wr0ng-passw0rd-of-the-test"


@pytest.fixture
def cluster() -> solidfire.Cluster:
    return solidfire.Cluster(size=10 * GIB)


@pytest.fixture
def server(cluster: solidfire.Cluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[HTTPSArray]:
    monkeypatch.setenv("SSL_CERT_FILE", "/dev/null")
    with contextlib.closing(solidfire.serve(cluster)) as made:
        yield made


@pytest.fixture
def load(metadata_dir: Path) -> Iterator[Callable[..., Provider]]:
    """Return a function that loads a backend with options."""
    made = []

    def loaded(**options: object) -> Provider:
        config = BackendConfig(
            name=f"array{len(made)}",
            options=options,
            state_dir=str(metadata_dir / "backends" / "array"),
            database=f"sqlite:///{metadata_dir}/cinderlib.sqlite",
        )
        Path(config.state_dir).mkdir(parents=True, exist_ok=True)
        made.append(find_provider("cinderlib")(config))
        made[-1].load()
        return made[-1]

    yield loaded
    for provider in made:
        provider.close()


def new(size: int = 1) -> ProviderVolume:
    return ProviderVolume(id=str(uuid.uuid4()), size=size, name="data")


def failure(call: Callable[[], object], caplog: pytest.LogCaptureFixture, *secrets: str) -> StorageError:
    """Return the error that a call raises, after a look for secrets in it and in the log."""
    with pytest.raises(StorageError) as caught:
        call()
    for secret in (solidfire.Cluster.PASSWORD, WRONG, *secrets):
        assert secret not in str(caught.value)
        assert secret not in caplog.text
    return caught.value


def test_a_wrong_password(cluster, server, load, caplog):
    error = failure(lambda: load(**{**solidfire_options(server.port), "san_password": WRONG}), caplog)
    assert error.code in ("FAILED_PRECONDITION", "UNAVAILABLE")
    assert "'array0'" in error.message
    assert not cluster.asked


def test_a_wrong_password_over_ssh(load, caplog):
    with storwize("storwize_svc_iscsi.StorwizeSVCISCSIDriver") as backend:
        error = failure(lambda: load(**{**backend.options, "san_password": WRONG}), caplog, str(backend.options["san_password"]))
    assert error.code in ("FAILED_PRECONDITION", "UNAVAILABLE")
    assert "Authentication failed" in error.message


def test_answers_that_are_no_json(cluster, server, load, caplog):
    """While it is loaded, and later: the array is not there, which can be tried again."""
    server.broken = "garbage"
    error = failure(lambda: load(**solidfire_options(server.port)), caplog)
    assert (error.code, error.retryable) == ("UNAVAILABLE", True)
    server.broken = ""
    provider = load(**solidfire_options(server.port))
    server.broken = "garbage"
    volume = new()
    error = failure(lambda: provider.create_volume(volume), caplog)
    assert error.code == "UNAVAILABLE"
    assert volume.id in error.message
    assert not cluster.contents()
    server.broken = ""
    provider.delete_volume(volume)
    assert provider.create_volume(volume) == 1
    assert provider.delete_volume(volume) is True


@pytest.mark.slow
def test_an_answer_that_never_comes(cluster, server, load, caplog):
    """The driver gives up after its own shortest timeout, 30 seconds."""
    provider = load(**solidfire_options(server.port), sf_api_request_timeout=30)
    volume = new()
    provider.create_volume(volume)
    server.broken = "silent"
    error = failure(lambda: provider.extend_volume(volume, 2), caplog)
    assert (error.code, error.retryable) == ("UNAVAILABLE", True)
    assert "timed out" in error.message
    server.broken = ""
    assert provider.volume_size(volume) == 1
    assert provider.extend_volume(volume, 2) == 2
    assert provider.delete_volume(volume) is True


def test_a_full_cluster(cluster, server, load, caplog):
    """The array's own words are in the error, and nothing is left."""
    provider = load(**solidfire_options(server.port))
    assert provider.stats().free_gib == 10
    error = failure(lambda: provider.create_volume(new(11)), caplog)
    assert error.code in ("RESOURCE_EXHAUSTED", "INTERNAL")
    assert "more than the cluster may provision" in error.message
    assert not cluster.contents()
    volume = new(8)
    provider.create_volume(volume)
    assert provider.stats().free_gib == 2
    error = failure(lambda: provider.extend_volume(volume, 11), caplog)
    assert "more than the cluster may provision" in error.message
    assert provider.volume_size(volume) == 8
    assert provider.delete_volume(volume) is True


def test_a_volume_that_somebody_deleted_on_the_array(cluster, server, load, caplog):
    """D6: the record goes, and the error of all else names the volume."""
    provider = load(**solidfire_options(server.port))
    volume = new()
    provider.create_volume(volume)
    cluster.volumes.clear()
    error = failure(lambda: provider.extend_volume(volume, 2), caplog)
    assert error.code == "NOT_FOUND"
    assert volume.id in error.message
    provider.delete_volume(volume)
    assert provider.volume_size(volume) is None


def test_qos_and_account_reach_the_array(cluster, server, load):
    """From the specs of a type to the wire; the secret that the driver made is the host's."""
    provider = load(**solidfire_options(server.port))
    volume = ProviderVolume(id=str(uuid.uuid4()), size=1, name="data", qos_specs={"minIOPS": "200", "maxIOPS": "400", "burstIOPS": "500"})
    provider.create_volume(volume)
    [made] = cluster.volumes.values()
    assert made["qos"] == {"minIOPS": 200, "maxIOPS": 400, "burstIOPS": 500}
    assert made["totalSize"] == GIB
    info = provider.connect(
        volume, "c1", {"host": "db1", "initiator": "iqn.2005-03.org.open-iscsi:db1", "multipath": False, "ip": "192.0.2.1"}
    )
    [account] = cluster.accounts.values()
    assert info["data"]["auth_password"] == account["targetSecret"]
    assert info["data"]["target_iqn"] == made["iqn"]
    provider.disconnect(volume, "c1", connector("db1"), last=True)
    assert provider.delete_volume(volume) is True
