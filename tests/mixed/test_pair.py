"""One salt-master and one salt-minion, each of the Python that the environment names: a volume is
made, mounted, found unchanged and deleted, and what fails has its code.

``tools/matrix.sh`` runs this for each pair of releases. ``STORAGE_MASTER_PYTHON`` and
``STORAGE_MINION_PYTHON`` are interpreters whose environments have Salt; default that of the
test. The two need not be of one release, so nothing of Salt is imported here.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import needs
from tests.conftest import CHECKOUT, free_tcp_port

FORMULA = ("_engines", "_modules", "_runners", "_states", "_utils", "storage")
#: Seconds. A busy machine may take minutes to start two daemons.
START_TIMEOUT = 300

pytestmark = [pytest.mark.root, pytest.mark.slow]


def command(role: str, program: str) -> list[str]:
    """Return a program of Salt in the environment of a role. Words before the interpreter, such
    as ``chroot FOLDER``, stay.
    """
    *words, python = shlex.split(os.environ.get(f"STORAGE_{role.upper()}_PYTHON") or sys.executable)
    return [*words, python, str(Path(python).parent / program)]


class Pair:
    """A running master and its minion ``db1``."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def run(self, program: str, *arguments: str, timeout: float = 180) -> subprocess.CompletedProcess[str]:
        """Run a program of the master's environment."""
        whole = [*command("master", program), "-c", str(self.root / "master"), "--out=json", "--log-level=quiet", *arguments]
        return subprocess.run(whole, capture_output=True, text=True, timeout=timeout, check=False)

    def salt(self, function: str, *arguments: str, timeout: int = 120) -> Any:
        done = self.run("salt", "--static", "-t", str(timeout), "db1", function, *arguments)
        assert done.stdout, (done, self.logs())
        return json.loads(done.stdout)["db1"]

    def state(self, function: str, name: str, **parameters: Any) -> dict[str, Any]:
        """Run one state and return its result."""
        found = self.salt("state.single", f"storage_volume.{function}", name, *(f"{key}={value}" for key, value in parameters.items()))
        assert isinstance(found, dict), (found, self.logs())
        (result,) = found.values()
        return dict(result)

    def logs(self) -> str:
        return "\n".join(f"== {path}\n{path.read_text(errors='replace')[-4000:]}" for path in sorted(self.root.glob("*.log")))


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    needs.loop_devices()
    with ExitStack() as stack:
        # Short: the path of a Unix socket ends at 107 bytes.
        root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="st-", dir="/tmp")))
        _configure(root)
        found = Pair(root)
        (root / "master/var/cache/salt/master/proc").mkdir(parents=True)  # the master's daemon makes it
        synced = found.run("salt-run", "saltutil.sync_all")
        assert synced.returncode == 0, synced
        for role in ("master", "minion"):
            stack.callback(_stop, _start(root, role))
        deadline = time.monotonic() + START_TIMEOUT
        while found.run("salt", "--static", "-t", "5", "db1", "test.ping").stdout.find("true") < 0:
            assert time.monotonic() < deadline, found.logs()
        found.salt("saltutil.sync_all")
        yield found


def _configure(root: Path) -> None:
    ports = {"publish_port": free_tcp_port(), "ret_port": free_tcp_port()}
    (root / "formula").mkdir()
    for name in FORMULA:
        (root / "formula" / name).symlink_to(CHECKOUT / name)
    own = {
        "master": {
            **ports,
            "interface": "127.0.0.1",
            "auto_accept": True,
            "worker_threads": 3,
            "file_roots": {"base": [str(root / "formula")]},
            "engines": [{"storage": {}}],
            "storage": {
                "state_dir": str(root / "controller"),
                "backends": {"local": {"volume_driver": "saltstorage.drivers.file.FileDriver", "file_driver_path": str(root / "volumes")}},
            },
        },
        "minion": {
            "id": "db1",
            "master": "127.0.0.1",
            "master_port": ports["ret_port"],
            "publish_port": ports["publish_port"],
            "acceptance_wait_time": 1,
            "storage": {
                "consumer": {
                    "answer_timeout": 60,
                    "state_dir": str(root / "consumer"),
                    "device_dir": str(root / "dev"),
                    "fstab": str(root / "fstab"),
                    "lock_path": str(root / "brick"),
                }
            },
        },
    }
    for role, options in own.items():
        (root / role).mkdir()
        general = {"root_dir": str(root / role), "user": "root", "log_file": str(root / f"{role}.log"), "log_level_logfile": "info"}
        (root / role / role).write_text(yaml.safe_dump({**general, **options}))


def _start(root: Path, role: str) -> subprocess.Popen[bytes]:
    whole = [*command(role, f"salt-{role}"), "-c", str(root / role), "--log-level=quiet"]
    return subprocess.Popen(whole, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _stop(daemon: subprocess.Popen[bytes]) -> None:
    daemon.terminate()
    try:
        daemon.wait(60)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(daemon.pid, signal.SIGKILL)
        daemon.wait()


def test_both_are_of_the_releases_that_were_asked_for(pair: Pair, record_property: Callable[[str, object], None]) -> None:
    said = {}
    for role in ("master", "minion"):
        done = subprocess.run([*command(role, f"salt-{role}"), "--version"], capture_output=True, text=True, check=True)
        said[role] = done.stdout.split()[1]
        record_property(role, said[role])
    assert pair.salt("test.version") == said["minion"]


def test_a_volume_lives(pair: Pair) -> None:
    mounted = pair.state("mounted", "data", size=1, mount=str(pair.root / "mnt"))
    assert mounted["result"] is True, (mounted, pair.logs())
    assert os.path.ismount(pair.root / "mnt")
    (pair.root / "mnt" / "kept").write_text("here")
    again = pair.state("mounted", "data", size=1, mount=str(pair.root / "mnt"))
    assert (again["result"], again["changes"]) == (True, {}), again
    rows = json.loads(pair.run("salt-run", "storage.volumes").stdout)
    assert [(row["name"], row["owner"], row["hosts"]) for row in rows] == [("data", "db1", ["db1"])]
    for function in ("unmounted", "disconnected", "absent"):
        done = pair.state(function, "data")
        assert done["result"] is True, done
        assert done["changes"], done
    assert pair.state("absent", "data")["changes"] == {}
    assert json.loads(pair.run("salt-run", "storage.volumes").stdout) == []


def test_errors_have_their_code(pair: Pair) -> None:
    failed = pair.state("present", "other", size=1, backend="nowhere")
    assert failed["result"] is False
    assert failed["comment"].startswith(("INVALID_ARGUMENT:", "NOT_FOUND:")), failed
    found = pair.state("connected", "nothing")
    assert found["result"] is False
    assert found["comment"].split(":")[0] in ("INVALID_ARGUMENT", "NOT_FOUND"), found
    refused = pair.run("salt-run", "storage.volume", "nothing", "db1")
    assert refused.returncode == 1
    assert json.loads(refused.stdout)["code"] == "NOT_FOUND"
