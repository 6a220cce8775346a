"""Lost targets of the kernel are noticed, on kernels with and without LIO: the kernel's folders
are simulated, rtslib is real.

The rest of LIO is in the lab.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import types
from contextlib import contextmanager
from pathlib import Path

import pytest
from oslo_concurrency import processutils

from saltstorage.drivers.targets import exports, lio, lio_root

PREFIX = "iqn.2010-10.org.openstack:"


class SimulatedKernel:
    """Folders and files in the form of the kernel's configfs, as far as a look for targets needs
    them.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.iscsi = folder / "iscsi"

    def add(self, name: str, *, enabled: bool = True) -> None:
        group = self.iscsi / name / "tpgt_1"
        group.mkdir(parents=True, exist_ok=True)
        (group / "enable").write_text(f"{int(enabled)}\n")
        (self.iscsi / "discovery_auth").mkdir(exist_ok=True)

    def remove(self, name: str) -> None:
        shutil.rmtree(self.iscsi / name, ignore_errors=True)

    def clear(self) -> None:
        """As ``targetctl clear``."""
        shutil.rmtree(self.folder)


@pytest.fixture
def kernel(tmp_path, monkeypatch):
    from rtslib_fb.node import CFSNode

    monkeypatch.setattr(CFSNode, "configfs_dir", str(tmp_path / "configfs" / "target"))
    return SimulatedKernel(tmp_path / "configfs" / "target")


@pytest.fixture
def run(kernel, monkeypatch):
    """The root program in this process; its changes of the kernel are simulated, its look for
    targets is real.
    """
    run = types.SimpleNamespace(asked=[], locked=False, portals={"192.0.2.10"})

    def execute(*_command, process_input, run_as_root):
        assert run_as_root
        assert run.locked, "rtslib does not bear two at once"
        request = json.loads(process_input)
        run.asked.append(request["do"])
        if request["do"] == "expose":
            whole = {*request["portals"]} <= run.portals
            kernel.add(request["name"], enabled=whole)
            if not whole:
                raise processutils.ProcessExecutionError(exit_code=1, stderr="RTSLibError: Could not create NetworkPortal in configFS")
        elif request["do"] == "withdraw":
            kernel.remove(request["name"])
        elif request["do"] == "find_lost":
            return json.dumps(lio_root.find_lost(request)), ""
        return "", ""

    @contextmanager
    def lock(name, external):
        assert (name, external, run.locked) == ("storage-lio", True, False)
        run.locked = True
        try:
            yield
        finally:
            run.locked = False

    monkeypatch.setattr(lio.utils, "execute", execute)
    monkeypatch.setattr(lio.lockutils, "lock", lock)
    return run


@pytest.fixture
def make(run, tmp_path):
    """A function that makes the target helper of a backend, as an engine does after its start."""

    def make(backend="storage_lvm", **options):
        target = lio.LioTarget.__new__(lio.LioTarget)
        target.configuration = types.SimpleNamespace(
            **{
                "target_prefix": PREFIX,
                "volumes_dir": str(tmp_path / "targets"),
                "config_group": backend,
                "target_ip_address": "192.0.2.10",
                "target_secondary_ip_addresses": [],
                "target_port": 3260,
                **options,
            }
        )
        target.check()
        return target

    return make


@pytest.fixture
def target(make):
    return make()


def volume(number: int):
    return types.SimpleNamespace(
        id=f"00000000-0000-0000-0000-{number:012}",
        name=f"volume-00000000-0000-0000-0000-{number:012}",
        provider_auth="CHAP user password-1234",
        volume_attachment=[],
    )


def expose(target, made):
    target.expose(made, Path("/dev/storage", made.name), ["iqn.1993-08.org.debian:01:a"])


def withdraw(target, made):
    target.withdraw(made, Path("/dev/storage", made.name))


def test_the_root_program_finds_targets_that_are_missing_or_not_enabled(kernel):
    names = [f"{PREFIX}volume-{letter}" for letter in "abc"]
    assert lio_root.find_lost({"names": names}) == names, "without a kernel that has LIO"
    kernel.add(names[0])
    kernel.add(names[1], enabled=False)
    (kernel.iscsi / names[2]).mkdir()
    assert lio_root.find_lost({"names": names}) == names[1:]
    kernel.add(names[2])
    assert lio_root.find_lost({"names": names}) == [names[1]]
    assert lio_root.find_lost({"names": [names[0].upper().replace("IQN", "iqn")]}) == []


def test_the_root_program_answers_in_json():
    """The program itself, on the present kernel: it has no such target, with LIO or without."""
    names = [f"{PREFIX}volume-no-such"]
    command = [sys.executable, lio._PROGRAM]
    done = subprocess.run(command, input=json.dumps({"do": "find_lost", "names": names}), capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == names


def test_r16_targets_that_are_lost_are_noticed(target, kernel, run):
    one, two = volume(1), volume(2)
    assert target.intact() is True
    assert "find_lost" not in run.asked, "nothing is meant to be there"
    for made in (one, two):
        expose(target, made)
    assert target.intact() is True
    del run.asked[:]
    kernel.remove(f"{PREFIX}{two.name}")
    assert target.intact() is False
    assert run.asked == ["find_lost"], "one call for all"
    expose(target, two)
    assert target.intact() is True
    kernel.add(f"{PREFIX}{one.name}", enabled=False)
    assert target.intact() is False
    kernel.clear()
    assert target.intact() is False
    for made in (one, two):
        expose(target, made)
    assert target.intact() is True


def test_a_withdrawn_target_is_not_missed(target):
    one = volume(1)
    expose(target, one)
    withdraw(target, one)
    assert target.intact() is True
    assert list(target.folder.iterdir()) == []


def test_a_backend_does_not_miss_targets_of_another(make, kernel):
    one, other = make(), make("storage_file")
    expose(one, volume(1))
    expose(other, volume(2))
    kernel.remove(f"{PREFIX}{volume(1).name}")
    assert (one.intact(), other.intact()) == (False, True)


def test_the_names_outlive_the_engine_and_are_private(make, target, kernel):
    expose(target, volume(1))
    kernel.clear()
    assert make().intact() is False
    assert target.folder.stat().st_mode & 0o777 == 0o700
    assert [path.read_bytes() for path in target.folder.iterdir()] == [b""]


def test_r16_a_restore_before_the_portal_is_up_fails_alone(make, kernel, run):
    """The restore fails with an error. The caller repeats it; the others do not count as lost."""
    from cinder import exception

    class Driver(exports.Exports):
        configuration = None

        def __init__(self):
            self.target = make(target_secondary_ip_addresses=["198.51.100.10"])
            self._existing = self._place = lambda made: Path("/dev/storage", made.name)
            self._location = lambda made: "there"

    driver, one = Driver(), volume(1)
    run.portals = {"192.0.2.10", "198.51.100.10"}
    for made in (one, volume(2)):
        driver.ensure_export(None, made)
    kernel.remove(f"{PREFIX}{one.name}")
    assert driver.exports_intact() is False
    run.portals = {"192.0.2.10"}
    with pytest.raises(exception.VolumeDriverException, match="NetworkPortal"):
        driver.ensure_export(None, one)
    assert driver.exports_intact() is True
    run.portals = {"192.0.2.10", "198.51.100.10"}
    driver.ensure_export(None, one)
    kernel.add(f"{PREFIX}{one.name}", enabled=False)
    assert driver.exports_intact() is False
