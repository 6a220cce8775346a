"""Folders of modules that the storage environment lacks."""

import json
import os
import subprocess
import sys

import pytest

from saltstorage.controller.access import python_path
from saltstorage.errors import FailedPreconditionError, InvalidArgumentError
from saltstorage.link import starting
from tests.conftest import CHECKOUT

PROVIDER = "scratch_array.Array"


@pytest.fixture
def modules(tmp_path):
    """A folder with the module of a provider."""
    folder = tmp_path / "modules"
    folder.mkdir(mode=0o755)
    source = (CHECKOUT / "tests/unit/scratch_provider.py").read_text()
    (folder / "scratch_array.py").write_text(source + "\nArray = ScratchProvider\n")
    return folder


@pytest.mark.parametrize("value", ["/srv/modules", ["modules"], [7], {"/srv": 1}, ["/srv/\0"]])
def test_another_value_is_refused(value):
    with pytest.raises(InvalidArgumentError, match="list of absolute paths"):
        python_path.folders(value)


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(FailedPreconditionError, match=r"gone: No such file"):
        python_path.use([str(tmp_path / "gone")])


@pytest.mark.parametrize("writable", ["modules", "outer"])
def test_a_folder_that_others_may_change_is_refused(tmp_path, writable):
    folder = tmp_path / "outer" / "modules"
    folder.mkdir(parents=True)
    {"modules": folder, "outer": folder.parent}[writable].chmod(0o777)
    with pytest.raises(FailedPreconditionError, match="by others than root"):
        python_path.use([str(folder)])
    assert str(folder) not in sys.path


@pytest.mark.root
def test_a_folder_of_another_user_is_refused(tmp_path):
    folder = tmp_path / "modules"
    folder.mkdir()
    os.chown(folder, 65534, 65534)
    with pytest.raises(FailedPreconditionError, match="by others than root"):
        python_path.use([str(folder)])


def test_modules_of_the_environment_come_first(modules):
    (modules / "json.py").write_text("raise SystemError")
    code = (
        "import sys; from saltstorage.controller.access import python_path as p; p.use([sys.argv[1]]);"
        "import json, scratch_array; print(json.__file__, scratch_array.__file__)"
    )
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(CHECKOUT / "_utils"), str(CHECKOUT)])}
    done = subprocess.run([sys.executable, "-c", code, str(modules)], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [json.__file__, str(modules / "scratch_array.py")]


def test_the_controllers_process_finds_a_provider_there(modules, tmp_path):
    folder = tmp_path / "volumes"
    folder.mkdir()
    backend = {"provider": PROVIDER, "folder": str(folder)}
    storage = {"state_dir": str(tmp_path / "state"), "backends": {"a": backend}, "python_path": [str(modules)]}
    opts = {"id": "master", "root_dir": "/", "storage": storage}
    child = starting.start(opts, storage, socket=None, serve=False)
    try:
        create = {"op": "create", "args": {"name": "data", "size": 1}, "caller": "db1", "start": True}
        assert child.connection.call("execute", create, timeout=60)["old"] is None
    finally:
        child.stop()
    assert list(folder.iterdir())


def test_without_it_the_module_is_named(modules, tmp_path):
    storage = {"state_dir": str(tmp_path / "state"), "backends": {"a": {"provider": PROVIDER}}}
    child = starting.start({"id": "master", "root_dir": "/", "storage": storage}, storage, socket=None, serve=False)
    try:
        create = {"op": "create", "args": {"name": "data", "size": 1}, "caller": "db1", "start": True}
        with pytest.raises(FailedPreconditionError, match="scratch_array"):
            child.connection.call("execute", create, timeout=60)
    finally:
        child.stop()
