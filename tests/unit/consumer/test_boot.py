"""Attaching after a boot, in a process of its own that cannot load Salt."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from saltstorage.consumer import boot as booting
from saltstorage.consumer.attachment import Reattached
from saltstorage.consumer.consumer import Consumer
from saltstorage.errors import FailedPreconditionError
from tests.loops import let_go
from tests.unit.consumer.helpers import attach, drop

#: Refuses modules, as in a Python that lacks them; then runs what the arguments say.
BLOCKER = """
import runpy, sys
blocked = sys.argv.pop(1).split(",")
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in blocked:
            raise ImportError(f"{name} is blocked", name=name)
sys.meta_path.insert(0, Blocker())
"""


def run(blocked, code, *arguments):
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", BLOCKER + code, blocked, *arguments]
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False)


def boot(path):
    return run("salt", "runpy.run_module('saltstorage.consumer.boot', run_name='__main__', alter_sys=True)", "--settings", str(path))


@pytest.fixture
def settings(config, folder):
    path = folder / "boot.json"
    path.write_text(json.dumps(config.to_wire()))
    return path


@pytest.mark.alone  # a number is freed and taken again
def test_r4_volumes_are_attached_without_salt(consumer, settings, config, make_file):
    good, bad = make_file("good"), make_file("bad")
    devices = [attach(consumer, good, "good", id="good").device, attach(consumer, bad, "bad", id="bad").device]
    for device in devices:
        let_go(device)
    bad.rename(bad.with_name("away"))
    done = boot(settings)
    assert done.returncode == 1, done
    lines = sorted(done.stdout.splitlines())
    assert lines[0].startswith("bad: failed: NOT_FOUND"), done
    assert lines[1:] == [f"good: attached at {consumer.links.path('good')}"]
    bad.with_name("away").rename(bad)
    assert boot(settings).returncode == 0
    fresh = Consumer(config)
    assert fresh.check("good").ok
    assert fresh.check("bad").ok
    assert not os.path.exists(os.path.join(config.state_dir, "locked"))
    for name in ("good", "bad"):
        drop(fresh, name)


@pytest.mark.parametrize("text", ["", "[]", "{}"])
def test_damaged_settings_are_told(settings, text):
    settings.write_text(text)
    done = boot(settings)
    assert done.returncode == 1
    assert "apply the state storage.consumer" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_locked_volume_calls_the_second_unit(config, monkeypatch, capsys):
    """The marker is there only for as long as a volume is locked."""
    found = [Reattached(name="data", state="locked", error=FailedPreconditionError("no passphrase"))]
    os.makedirs(config.state_dir)
    marker = Path(config.state_dir, booting.LOCKED)
    monkeypatch.setattr(Consumer, "reattach", lambda self: found)
    assert booting.reattach(config) == 0
    assert capsys.readouterr().out == "data: locked, waits for Salt (salt-storage-unlock.service)\n"
    assert marker.exists()
    found[0] = Reattached(name="data", state="ok", path="/dev/storage/data")
    assert booting.reattach(config) == 0
    assert not marker.exists()


def test_salts_python_needs_none_of_the_environments_packages():
    package = Path(__file__).resolve().parents[3] / "_utils" / "saltstorage"
    own = {"brick.py", "rbd.py"}
    modules = [
        ".".join(("saltstorage", *path.relative_to(package).with_suffix("").parts))
        for room in ("consumer", "flow", "plans", "bus", "runner", "pillar", "ipc", "environment", "link")
        for path in (package / room).rglob("*.py")
        if path.name not in ("__init__.py", "__main__.py") and not (path.parent.name == "connectors" and path.name in own)
    ]
    assert len(modules) > 50
    blocked = "os_brick,oslo_config,oslo_utils,oslo_concurrency,oslo_service,oslo_log,oslo_privsep,cinder,cinderlib,sqlalchemy,tooz"
    done = run(blocked, "import importlib\nfor name in sys.argv[1:]: importlib.import_module(name)", *modules)
    assert done.returncode == 0, done.stderr
