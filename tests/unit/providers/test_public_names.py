"""The names that others may build on: those of ``saltstorage.providers``, and the paths of the
project's drivers.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys

import pytest

import saltstorage.drivers
from saltstorage import providers
from tests.conftest import CHECKOUT

DRIVERS = ["file.FileDriver", "file_iscsi.FileISCSIDriver", "lvm_iscsi.LVMISCSIDriver"]
CONTRACT = ["BackendConfig", "BackendStats", "Capability", "Found", "Provider", "ProviderSnapshot", "ProviderVolume"]
HELPERS = ["ALL_INITIATORS", "find_provider", "initiator_keys", "merge_connectors", "reference_text", "step"]
ERRORS = [
    "AbortedError",
    "AlreadyExistsError",
    "FailedPreconditionError",
    "InternalError",
    "InvalidArgumentError",
    "NotFoundError",
    "ResourceExhaustedError",
    "StorageError",
    "UnavailableError",
    "UnimplementedError",
]
#: Only the conformance suite reads the master's configuration.
OF_THE_SUITE = {"saltstorage.controller.access.config"}


def test_the_public_names_of_providers():
    """A name that is added here is promised; a name that goes breaks the providers of others."""
    assert sorted(providers.__all__) == sorted([*CONTRACT, *HELPERS, *ERRORS])
    assert all(hasattr(providers, name) for name in providers.__all__)


def test_the_contract_is_imported_without_anything_heavy():
    code = "import sys; import saltstorage.providers; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    done = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONPATH": str(CHECKOUT / "_utils")}, capture_output=True, text=True, check=True
    )
    loaded = set(done.stdout.split())
    assert "saltstorage" in loaded
    assert not loaded & {"cinder", "cinderlib", "os_brick", "oslo_config", "sqlalchemy", "tooz", "eventlet"}


def test_examples_of_providers_use_public_names_alone():
    """The guide, the conformance suite and the smallest provider of the tests."""
    files = [*(CHECKOUT / "tests/conformance").glob("*.py"), CHECKOUT / "tests/unit/scratch_provider.py"]
    imported = {
        node.module: file.name
        for file in files
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("saltstorage")
    }
    assert imported.keys() - OF_THE_SUITE == {"saltstorage.providers"}, imported
    guide = (CHECKOUT / "docs/how-to/provider.rst").read_text()
    assert set(re.findall(r"from (saltstorage\S*) import", guide)) == {"saltstorage.providers"}


@pytest.mark.parametrize("path", DRIVERS)
def test_the_public_paths_of_drivers_are_said_where_they_are(path):
    assert f"``saltstorage.drivers.{path}``" in saltstorage.drivers.__doc__


def test_the_folder_of_drivers_has_public_modules_alone():
    """Parts that drivers share are in folders below."""
    folder = CHECKOUT / "_utils/saltstorage/drivers"
    assert {file.stem for file in folder.glob("*.py")} - {"__init__"} == {path.partition(".")[0] for path in DRIVERS}
    found = [
        f"{file.stem}.{name}"
        for file in folder.glob("*.py")
        for name in re.findall(r"^@interface\.volumedriver\nclass (\w+)", file.read_text(), re.MULTILINE)
    ]
    assert sorted(found) == DRIVERS
