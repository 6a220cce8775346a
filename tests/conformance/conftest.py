"""The backend for the conformance suite: the one of ``--backend``, or the two file drivers through
cinderlib and the vendors' drivers that have a simulator.

::

    make conformance                     # those; the simulators too live each life ten times over
    make conformance BACKEND=acme.yaml   # a file: the entry of a backend in the configuration
    make conformance BACKEND=acme1       # a backend of the master's configuration
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from saltstorage.controller.access.config import TypeEntry
from saltstorage.providers import BackendConfig, Capability, Provider, find_provider
from tests import needs as machine
from tests.conftest import free_tcp_port
from tests.simulators.backends import SIMULATED
from tests.tgtd import Tgtd

from . import world as worlds
from .backend import Backend, choose
from .world import World

#: The file drivers know no specs, and so must accept any; each kind comes alone too, since the
#: provider keeps them in different places.
TYPES = (
    TypeEntry(name="both", extra_specs={"conformance:tier": "gold", "ü": "<is> True"}, qos_specs={"maxIOPS": "500"}),
    TypeEntry(name="extra", extra_specs={"conformance:tier": "gold"}),
    TypeEntry(name="qos", qos_specs={"maxIOPS": "500", "maxBWS": "100"}),
)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--backend", help="the backend to test: a YAML or JSON file with provider and options, or a name in --master-config")
    parser.addoption("--master-config", default="/etc/salt/master", help="the master's configuration (default: %(default)s)")
    parser.addoption("--thorough", action="store_true", help="live each life ten times over on the simulators too: minutes each")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what takes minutes on a simulator and shows leaks of the suite's own drivers."""
    if config.getoption("--thorough"):
        return
    left_out = {item for item in items if _parameter(item, "backend") in SIMULATED and _parameter(item, "times") == 10}
    if left_out:
        config.hook.pytest_deselected(items=list(left_out))
        items[:] = [item for item in items if item not in left_out]


def _parameter(item: pytest.Item, name: str) -> Any:
    return getattr(getattr(item, "callspec", None), "params", {}).get(name)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "backend" in metafunc.fixturenames:
        given = metafunc.config.getoption("--backend")
        metafunc.parametrize("backend", ["given"] if given else ["file", "iscsi", *SIMULATED], indirect=True, scope="session")


@pytest.fixture(scope="session")
def backend(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backend]:
    if request.param == "given":
        yield choose(request.config.getoption("--backend"), request.config.getoption("--master-config"))
        return
    if request.param in SIMULATED:
        with SIMULATED[request.param]() as simulated:
            yield simulated
        return
    options = {"file_driver_path": str(tmp_path_factory.mktemp("volumes"))}
    if request.param == "file":
        yield Backend("cinderlib", {**options, "volume_driver": "saltstorage.drivers.file.FileDriver"}, types=TYPES)
        return
    machine.root()
    machine.programs("tgtd")
    with tempfile.TemporaryDirectory(prefix="st-") as folder, pytest.MonkeyPatch.context() as patch:
        daemon = Tgtd(Path(folder), free_tcp_port())
        patch.setenv("TGT_IPC_SOCKET", daemon.socket)
        daemon.start()
        iscsi = {
            "volume_driver": "saltstorage.drivers.file_iscsi.FileISCSIDriver",
            "volumes_dir": str(tmp_path_factory.mktemp("targets")),
            "target_ip_address": "127.0.0.1",
            "target_port": daemon.port,
        }
        try:
            yield Backend("cinderlib", {**options, **iscsi}, types=TYPES)
            assert not daemon.show(), "targets left over"
        finally:
            daemon.kill()


@pytest.fixture(scope="session")
def backend_config(backend: Backend, metadata_dir: Path) -> BackendConfig:
    """The provider's metadata is the suite's own: it knows no volumes but those of the suite."""
    return BackendConfig(
        name="conformance",
        options=backend.options,
        state_dir=str(metadata_dir / "backends" / "conformance"),
        database=f"sqlite:///{metadata_dir}/cinderlib.sqlite",
    )


@pytest.fixture(scope="session")
def provider(backend: Backend, backend_config: BackendConfig) -> Iterator[Provider]:
    made = find_provider(backend.provider)(backend_config)
    Path(backend_config.state_dir).mkdir(parents=True, exist_ok=True)
    made.load()
    yield made
    made.close()


@pytest.fixture
def world(provider: Provider, backend: Backend) -> Iterator[World]:
    made = World(provider, backend.types, backend.limits)
    folder = backend.options.get("file_driver_path")
    contents = backend.contents or (lambda: set(os.listdir(folder)) if folder else set())
    before = contents()
    yield made
    made.clean()
    assert contents() == before, "left over on the backend"


@pytest.fixture
def needs(provider: Provider, backend: Backend) -> Callable[..., None]:
    def check(*capabilities: Capability) -> None:
        lacking = [capability.value for capability in capabilities if capability not in provider.capabilities()]
        if lacking:
            pytest.skip(f"the backend does not have {', '.join(lacking)}")
        for reason in [backend.limits[capability] for capability in capabilities if capability in backend.limits]:
            pytest.skip(f"the backend is a simulator that {reason}")
        if Capability.SPECS in capabilities and not backend.types:
            pytest.skip("this suite does not know the specs to try; see conformance:types in the guide for providers")

    return check


@pytest.fixture
def data() -> Callable[[dict[str, Any]], Path]:
    """Return a function that gives the file or device behind connection information, where this
    machine can open it.
    """

    def path(info: dict[str, Any]) -> Path:
        if info["driver_volume_type"] != "local":
            pytest.skip("this suite reads and writes data only on local volumes")
        return Path(info["data"]["device_path"])

    return path


@pytest.fixture
def connector() -> Callable[[str], dict[str, Any]]:
    return worlds.connector
