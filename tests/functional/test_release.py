"""Each file of a release, installed into a Salt that has nothing else: the main job, and the place
that its code comes from.
"""

from __future__ import annotations

import getpass
import importlib.metadata
import importlib.util
import json
import subprocess
import sys
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import needs
from tests.conftest import CHECKOUT

pytestmark = pytest.mark.slow

#: Prints the files of one function of each kind, and that of the package: of a minion or a master.
WHERE = """
import json, sys
import salt.config, salt.loader

folder, role = sys.argv[1:]
opts = salt.config.minion_config(folder + "/minion") if role == "minion" else salt.config.client_config(folder + "/master")
opts["grains"] = salt.loader.grains(opts)
utils = salt.loader.utils(opts)
modules = salt.loader.minion_mods(opts, utils=utils)
if role == "minion":
    functions = modules["storage.volumes"], salt.loader.states(opts, modules, utils, None)["storage_volume.mounted"]
else:
    runners = salt.loader.runner(opts, utils=utils)
    functions = runners["storage.volumes"], salt.loader.engines(opts, modules, runners, utils)["storage.start"]
modules = [*(function.__module__ for function in functions), "saltstorage"]
print(json.dumps([sys.modules[name].__file__ for name in modules]))
"""


@dataclass
class Fresh:
    """A Salt of its own, with its configuration."""

    folder: Path
    #: What minion and master have in `file_roots`.
    roots: Path

    @property
    def binaries(self) -> Path:
        return self.folder / "salt" / "bin"

    @property
    def versions(self) -> Path:
        """The versions that run the tests, which override limits as the lock file does."""
        return self.folder / "versions.txt"

    @property
    def packages(self) -> Path:
        [found] = (self.folder / "salt").glob("lib/python*/site-packages")
        return found

    def run(self, *command: str | Path) -> str:
        # Not in the checkout, whose folder `saltext` would be found first.
        done = subprocess.run([str(part) for part in command], cwd=self.folder, capture_output=True, text=True, timeout=200, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def call(self, *arguments: str) -> Any:
        output = self.run(self.binaries / "salt-call", "-c", self.folder, "--local", "--out=json", "--log-level=quiet", *arguments)
        return json.loads(output)["local"]

    def state(self, function: str, *arguments: str) -> dict[str, Any]:
        [result] = self.call("state.single", function, *arguments).values()
        assert isinstance(result, dict)
        return result

    def sync(self) -> None:
        self.call("saltutil.sync_all")
        self.run(self.binaries / "salt-run", "-c", self.folder, "--log-level=quiet", "saltutil.sync_all")

    def places(self) -> list[Path]:
        """Return the files of loader files and package, of the minion and of the master."""
        found = [self.run(self.binaries / "python", "-c", WHERE, self.folder, role) for role in ("minion", "master")]
        return [Path(path) for output in found for path in json.loads(output.splitlines()[-1])]


@pytest.fixture(scope="module")
def uv() -> str:
    return str(Path(sys.executable).parent / "uv")


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Build a release of this tree, and return its archive (``.gz``) and wheel (``.whl``)."""
    spec = importlib.util.spec_from_file_location("release", CHECKOUT / "tools/release.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return {path.suffix: path for path in module.build(CHECKOUT, tmp_path_factory.mktemp("release"), dirty=True)}


@pytest.fixture
def fresh(tmp_path: Path, uv: str) -> Fresh:
    """Return a Salt with nothing in its `file_roots`: Salt and its requirements, in the versions
    that run the tests.
    """
    made = Fresh(tmp_path, tmp_path / "roots")
    made.roots.mkdir()
    made.run(sys.executable, "-m", "venv", "--without-pip", tmp_path / "salt")
    made.versions.write_text("".join(f"{found.name}=={found.version}\n" for found in importlib.metadata.distributions()))
    made.run(uv, "pip", "install", "--quiet", "--python", made.binaries / "python", "--override", made.versions, "salt")
    common = {
        "root_dir": str(tmp_path / "root"),
        "file_roots": {"base": [str(made.roots)]},
        "user": getpass.getuser(),
        "log_file": str(tmp_path / "log"),
    }
    for name in ("volumes", "root", "root/var/cache/salt/master/proc"):
        (tmp_path / name).mkdir(mode=0o700, parents=True)
    storage = {
        "state_dir": str(tmp_path / "state"),
        "backends": {"local": {"volume_driver": "saltstorage.drivers.file.FileDriver", "file_driver_path": str(tmp_path / "volumes")}},
        "consumer": {key: str(tmp_path / key) for key in ("device_dir", "fstab", "lock_path")} | {"state_dir": str(tmp_path / "minion.d")},
    }
    (tmp_path / "minion").write_text(yaml.safe_dump({**common, "id": "min", "file_client": "local", "storage": storage}))
    (tmp_path / "master").write_text(yaml.safe_dump(common))
    return made


def storage_environment(fresh: Fresh, package: Path) -> None:
    """Make a storage environment where Salt looks for it, of the packages that run this test.

    :param package: the release's package ``saltstorage``, of which the environment has a copy.
    """
    made = fresh.folder / "root/opt/salt-storage"
    fresh.run(sys.executable, "-m", "venv", "--without-pip", made)
    [packages] = made.glob("lib/python*/site-packages")
    (packages / "saltstorage").symlink_to(package)
    [ours] = [path for path in sys.path if path.endswith("site-packages") and (Path(path) / "os_brick").exists()]
    (packages / "packages-of-the-tests.pth").write_text(f"{ours}\n")


def main_job(fresh: Fresh, package: Path) -> None:
    """A volume is created and mounted; a second time changes nothing; and it is deleted."""
    storage_environment(fresh, package)
    mount = fresh.folder / "srv"
    wanted = ("storage_volume.mounted", "data", "size=1GiB", f"mount={mount}")
    try:
        first = fresh.state(*wanted)
        assert (first["result"], first["changes"] != {}, mount.is_mount()) == (True, True, True), first
        again = fresh.state(*wanted)
        assert (again["result"], again["changes"]) == (True, {}), again
        [volume] = fresh.call("storage.volumes")
        assert volume["name"] == "data"
    finally:
        # A test that failed may not leave a loop device.
        taken = [fresh.state(f"storage_volume.{name}", "data") for name in ("unmounted", "disconnected", "absent")]
    assert [state["result"] for state in taken] == [True] * 3, taken
    assert not mount.is_mount()
    assert list((fresh.folder / "volumes").glob("volume-*")) == []


@pytest.fixture
def formula(release: dict[str, Path], fresh: Fresh) -> Callable[[], Path]:
    """Return a function that unpacks the archive into the `file_roots`, and returns its folder."""

    def unpack() -> Path:
        with tarfile.open(release[".gz"]) as files:
            files.extractall(fresh.folder)  # noqa: S202 built just now
        [folder] = fresh.folder.glob("salt-storage-formula-*")
        fresh.roots.rmdir()
        folder.rename(fresh.roots)
        return fresh.roots

    return unpack


@pytest.fixture
def install_wheel(release: dict[str, Path], fresh: Fresh, uv: str) -> Callable[[], Path]:
    """Return a function that installs the wheel, which needs nothing but Salt, and returns its
    folder.
    """

    def install() -> Path:
        # Without an index: a package that Salt does not bring would fail this.
        install = (uv, "pip", "install", "--quiet", "--no-index", "--override", fresh.versions)
        fresh.run(*install, "--python", fresh.binaries / "python", release[".whl"])
        return fresh.packages / "saltext/storage"

    return install


@pytest.mark.root
def test_the_archive_in_file_roots_does_the_main_job(fresh: Fresh, formula: Callable[[], Path]) -> None:
    needs.loop_devices()
    needs.filesystem("ext4")
    root = formula()
    fresh.call("saltutil.sync_all")
    assert "storage" in fresh.call("sys.list_modules")
    main_job(fresh, root / "_utils/saltstorage")


@pytest.mark.root
def test_the_wheel_does_the_main_job_with_nothing_synced(fresh: Fresh, install_wheel: Callable[[], Path]) -> None:
    needs.loop_devices()
    needs.filesystem("ext4")
    folder = install_wheel()
    assert {"storage", "storage_pillar"} <= set(fresh.call("sys.list_modules"))
    assert {"storage_volume", "storage_snapshot", "storage_pillar"} <= set(fresh.call("sys.list_state_modules"))
    main_job(fresh, folder / "utils/saltstorage")
    assert "check" in fresh.run(fresh.binaries / "salt-run", "-c", fresh.folder, "--log-level=quiet", "-d", "storage.check")


def test_the_wheel_has_the_sls(fresh: Fresh, install_wheel: Callable[[], Path]) -> None:
    folder = install_wheel()
    fresh.roots.rmdir()
    fresh.roots.symlink_to(folder / "formula")
    assert "storage_pillar.lookup" not in str(shown := fresh.call("state.show_sls", "storage.volumes")), shown
    assert fresh.call("storage_pillar.lookup")["controller"]["service"] == "salt-master"
    assert (folder / "formula/storage/requirements/controller.txt").is_file()


def test_a_synced_formula_and_the_wheel_do_not_mix(fresh: Fresh, formula: Callable[[], Path], install_wheel: Callable[[], Path]) -> None:
    folder = install_wheel()
    assert [path.is_relative_to(folder) for path in fresh.places()] == [True] * 6
    root = formula()
    fresh.sync()
    synced = fresh.places()
    assert [path.is_relative_to(fresh.folder / "root/var/cache/salt") for path in synced] == [True] * 6, synced
    root.rename(fresh.folder / "removed")
    root.mkdir()
    fresh.sync()
    assert [path.is_relative_to(folder) for path in fresh.places()] == [True] * 6
