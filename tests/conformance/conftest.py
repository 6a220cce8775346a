"""What the conformance suite runs against: a provider that a fixture makes, the two file drivers through cinderlib by default.

To run it against another backend, give a JSON file with the provider's name and options::

    pytest tests/conformance --provider-config backend.json   # {"provider": "cinderlib", "volume_driver": "…", …}
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from saltstorage.controller.providers.base import BackendConfig, Capability, Provider, ProviderSnapshot, ProviderVolume
from saltstorage.controller.providers.registry import find_provider
from tests.conftest import free_tcp_port
from tests.tgtd import Tgtd


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--provider-config", help="JSON file with the provider and options of the backend to test")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "backend_options" in metafunc.fixturenames:
        file = metafunc.config.getoption("--provider-config")
        metafunc.parametrize("backend_options", ["given"] if file else ["file", "iscsi"], indirect=True, scope="session")


@pytest.fixture(scope="session")
def backend_options(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    if request.param == "given":
        yield json.loads(Path(request.config.getoption("--provider-config")).read_text())
        return
    options = {"provider": "cinderlib", "file_driver_path": str(tmp_path_factory.mktemp("volumes"))}
    if request.param == "file":
        yield {**options, "volume_driver": "saltstorage.controller.drivers.file.FileDriver"}
        return
    if os.geteuid() or not shutil.which("tgtd"):
        pytest.skip("needs root and the package tgt")
    with tempfile.TemporaryDirectory(prefix="st-") as folder, pytest.MonkeyPatch.context() as patch:
        daemon = Tgtd(Path(folder), free_tcp_port())
        patch.setenv("TGT_IPC_SOCKET", daemon.socket)
        daemon.start()
        try:
            yield {
                **options,
                "volume_driver": "saltstorage.controller.drivers.file_iscsi.FileISCSIDriver",
                "volumes_dir": str(tmp_path_factory.mktemp("targets")),
                "target_ip_address": "127.0.0.1",
                "target_port": daemon.port,
            }
            assert not daemon.show(), "targets left over"
        finally:
            daemon.kill()


@pytest.fixture(scope="session")
def provider(backend_options: dict[str, Any], metadata_dir: Path) -> Iterator[Provider]:
    options = dict(backend_options)
    made = find_provider(options.pop("provider"))(
        BackendConfig(
            name="conformance",
            options=options,
            state_dir=str(metadata_dir / "backends" / "conformance"),
            database=f"sqlite:///{metadata_dir}/cinderlib.sqlite",
        )
    )
    made.load()
    yield made
    made.close()


@dataclass
class World:
    """Makes things on the backend, and takes them away in reverse order when the test ends."""

    provider: Provider
    undo: list[Callable[[], Any]] = field(default_factory=list)
    volumes: list[ProviderVolume] = field(default_factory=list)
    snapshots: list[ProviderSnapshot] = field(default_factory=list)

    def volume(self, size: int = 1, source: ProviderVolume | ProviderSnapshot | None = None) -> ProviderVolume:
        volume = self.new(size)
        delivered = self.provider.create_volume(volume, source=source)
        assert delivered >= size
        return volume

    def new(self, size: int = 1) -> ProviderVolume:
        """Return a volume that is not created, and delete it at the end all the same."""
        volume = ProviderVolume(id=str(uuid.uuid4()), size=size, name="conformance – 测试")
        self.undo.append(lambda: self.provider.delete_volume(volume))
        self.volumes.append(volume)
        return volume

    def snapshot(self, volume: ProviderVolume) -> ProviderSnapshot:
        snapshot = ProviderSnapshot(id=str(uuid.uuid4()), volume_id=volume.id, size=volume.size, name="snap")
        self.undo.append(lambda: self.provider.delete_snapshot(snapshot))
        self.snapshots.append(snapshot)
        self.provider.create_snapshot(snapshot)
        return snapshot

    def connect(self, volume: ProviderVolume, host: str, *, read_only: bool = False, connection_id: str = "") -> tuple[str, dict[str, Any]]:
        connection_id = connection_id or str(uuid.uuid4())
        self.undo.append(lambda: self.provider.disconnect(volume, connection_id, connector(host), last=True))
        return connection_id, self.provider.connect(volume, connection_id, connector(host), read_only=read_only)

    def disconnect(self, volume: ProviderVolume, connection_id: str, host: str, *, last: bool = True) -> None:
        self.provider.disconnect(volume, connection_id, connector(host), last=last)

    def clean(self) -> None:
        for action in reversed(self.undo):
            action()
        left = [
            volume.id for volume in self.volumes if self.provider.volume_size(volume) is not None or self.provider.delete_volume(volume)
        ]
        left += [snapshot.id for snapshot in self.snapshots if self.provider.delete_snapshot(snapshot)]
        assert not left, f"left over on the backend: {left}"


@pytest.fixture
def world(provider: Provider, backend_options: dict[str, Any]) -> Iterator[World]:
    made = World(provider)
    folder = backend_options.get("file_driver_path")
    before = set(Path(folder).iterdir()) if folder else set()
    yield made
    made.clean()
    if folder:
        assert set(Path(folder).iterdir()) == before, "files left over"


@pytest.fixture
def needs(provider: Provider) -> Callable[[Capability], None]:
    def check(capability: Capability) -> None:
        if capability not in provider.capabilities():
            pytest.skip(f"the backend does not have {capability.value}")

    return check


@pytest.fixture
def data(backend_options: dict[str, Any]) -> Callable[[dict[str, Any]], Path]:
    """Return a function that gives the file or device behind connection information, where this machine can open it."""

    def path(info: dict[str, Any]) -> Path:
        if info["driver_volume_type"] != "local":
            pytest.skip("this suite reads and writes data only on local volumes")
        return Path(info["data"]["device_path"])

    return path


def connector(host: str) -> dict[str, Any]:
    """Return what os-brick says of a host, with every kind of initiator."""
    number = sum(host.encode()) % 100
    return {
        "platform": "x86_64",
        "os_type": "linux",
        "ip": f"192.0.2.{number}",
        "host": host,
        "multipath": False,
        "enforce_multipath": True,
        "initiator": f"iqn.2005-03.org.open-iscsi:{host}",
        "do_local_attach": False,
        "wwpns": [f"50014380242b9{number:03d}"],
        "wwnns": [f"50014380242c9{number:03d}"],
        "nqn": f"nqn.2014-08.org.nvmexpress:uuid:{host}",
        "system uuid": str(uuid.uuid5(uuid.NAMESPACE_DNS, host)),
    }


@pytest.fixture(name="connector")
def connector_fixture() -> Callable[[str], dict[str, Any]]:
    return connector
