"""A host whose controller is installed by the SLS ``storage.controller``, and run as its unit says.

The states of services are left out, since systemd need not run here: this module does by
the unit's very lines what systemd would.
"""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from tests.conftest import CHECKOUT
from tests.otheruser import python_for_all

UNIT = "salt-storage-controller.service"
#: States that need systemd, an index of packages, or a master.
LEFT_OUT = ("service", "storage_environment", "storage_controller")
FORMULA = ("_modules", "_states", "_runners", "_engines", "_utils", "storage")
TIMEOUT = 120


class ServiceHost:
    """Folders of a host below one temporary folder.

    :param folder: an empty folder that every user can reach.
    :param master: user of the salt-master.
    :param python: a Python that every user can run, of the environment ``env`` in the folder.
    :ivar backends: the backends in pillar.
    """

    def __init__(self, folder: Path, master: str, python: Path) -> None:
        self.folder = folder
        self.master = master
        self.python = python
        self.volumes = folder / "volumes"
        self.volumes.mkdir()
        self.backends = {"local": {"volume_driver": "saltstorage.drivers.file.FileDriver", "file_driver_path": str(self.volumes)}}
        self.socket = folder / "run/salt-storage/controller.sock"
        self.state = folder / "var/lib/salt-storage/controller"
        self.config = folder / "etc/salt-storage/controller.yaml"
        self.master_config = folder / "etc/salt/master.d/storage.conf"
        self.process: subprocess.Popen[bytes] | None = None
        self._notified: socket.socket | None = None
        (folder / "units").mkdir()
        (folder / "run").mkdir()
        formula = folder / "formula"
        formula.mkdir()
        for name in FORMULA:
            (formula / name).symlink_to(CHECKOUT / name)
        minion = {
            "id": "alpha",
            "root_dir": str(folder / "minion"),
            "file_client": "local",
            "file_roots": {"base": [str(formula)]},
            "pillar_roots": {"base": [str(folder / "pillar")]},
            "user": "root",
            "grains": {"init": "systemd"},
            "storage": {"environment": str(folder / "env")},
        }
        (folder / "conf").mkdir()
        (folder / "conf/minion").write_text(yaml.safe_dump(minion))
        self._call("saltutil.sync_all")

    def apply(self, controller_user: str, **controller: Any) -> dict[str, Any]:
        """Apply the SLS with a choice of the administrator, and return the states' results by
        id.
        """
        lookup = {
            "controller_user": controller_user,
            "user": self.master,
            "socket": str(self.socket),
            "config": str(self.config),
            "master_config": str(self.master_config),
            "state_dir": str(self.state),
        }
        pillar = {
            "storage": {
                "controller": {"backends": self.backends, **controller},
                "lookup": {"controller": lookup, "consumer": {"unit_dir": str(self.folder / "units")}},
            }
        }
        high = without(self._call("state.show_sls", "storage.controller", f"pillar={json.dumps(pillar)}"))
        found = self._call("state.high", json.dumps(high), f"pillar={json.dumps(pillar)}")
        states = {state["__id__"]: state for state in found.values()}
        assert all(state["result"] is True for state in states.values()), states
        return states

    def unit(self) -> dict[str, str]:
        """Return the keys of the unit's section ``Service``."""
        text = (self.folder / "units" / UNIT).read_text().partition("[Service]\n")[2].partition("\n[")[0]
        return dict(line.split("=", 1) for line in text.splitlines() if line and not line.startswith("#"))

    def start(self) -> None:
        """Start the controller as the unit says, and wait until it says that it is ready."""
        unit = self.unit()
        if not self.socket.parent.exists():
            self.socket.parent.mkdir(mode=0o755)
            shutil.chown(self.socket.parent, unit["User"], unit["Group"])
        path = str(self.folder / "run/notify")
        self._notified = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        Path(path).unlink(missing_ok=True)
        self._notified.bind(path)
        os.chmod(path, 0o777)  # noqa: S103 that of systemd is such
        self._notified.settimeout(TIMEOUT)
        name, _, value = shlex.split(unit["Environment"])[0].partition("=")
        self.process = subprocess.Popen(
            shlex.split(unit["ExecStart"]),
            env={name: value, "NOTIFY_SOCKET": path, "WATCHDOG_USEC": str(int(unit["WatchdogSec"]) * 1_000_000)},
            user=unit["User"],
            group=unit["Group"],
            extra_groups=unit.get("SupplementaryGroups", "").split(),
            umask=int(unit["UMask"], 8),
            cwd="/",
            stdin=subprocess.DEVNULL,
        )
        self.hear("READY=1")

    def hear(self, state: str) -> None:
        """Wait until the service tells a state to systemd."""
        assert self._notified is not None
        while self._notified.recv(100) != state.encode():
            pass

    def stop(self) -> None:
        """Stop the service as systemd does."""
        assert self.process is not None
        self.process.terminate()
        assert self.process.wait(60) == 0
        self.process = None
        assert not self.socket.exists()
        # A RuntimeDirectory ends with its service.
        self.socket.parent.rmdir()

    def kill(self) -> None:
        """Kill the service."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()
        self.process = None

    def give_volumes(self, user: str) -> None:
        """Let a user own the folder of the volumes and its files, as an administrator does."""
        for path in (self.volumes, *self.volumes.iterdir()):
            shutil.chown(path, user)

    def _call(self, function: str, *args: str) -> Any:
        command = [
            Path(sys.executable).with_name("salt-call"),
            "-c",
            self.folder / "conf",
            "--out=json",
            "--log-level=error",
            function,
            *args,
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False)
        assert done.stdout.startswith("{"), done.stderr + done.stdout
        return json.loads(done.stdout)["local"]


def without(high: dict[str, Any]) -> dict[str, Any]:
    """Return the states of an SLS but those of :data:`LEFT_OUT`, whose requisites are left out
    too.
    """
    kept: dict[str, Any] = {}
    for name, body in high.items():
        modules = {key: items for key, items in body.items() if not key.startswith("__") and key not in LEFT_OUT}
        if modules:
            kept[name] = {key: value for key, value in body.items() if key.startswith("__")}
        for module, items in modules.items():
            kept[name][module] = []
            for item in items:
                if isinstance(item, dict):
                    [(key, value)] = item.items()
                    if key == "order":
                        continue
                    if key in ("require", "watch", "require_in"):
                        value = [one for one in value if not {*one} & {*LEFT_OUT}]
                    item = {key: value}
                kept[name][module].append(item)
    return kept


@contextlib.contextmanager
def service_host(master: str) -> Iterator[ServiceHost]:
    """Yield a host, and remove it with its process."""
    folder = Path(tempfile.mkdtemp(prefix="st-", dir="/tmp"))
    folder.chmod(0o755)
    try:
        with python_for_all(folder / "env", CHECKOUT / "_utils/saltstorage") as python:
            host = ServiceHost(folder, master, python)
            try:
                yield host
            finally:
                if host.process is not None:
                    host.kill()
    finally:
        shutil.rmtree(folder)


@contextlib.contextmanager
def account(name: str) -> Iterator[str]:
    """Yield a user of the machine that exists inside alone."""
    subprocess.run(["useradd", "--system", "--user-group", "--no-create-home", name], check=True)
    try:
        yield name
    finally:
        remove_account(name)


def remove_account(name: str) -> None:
    """Remove a user, if there is one."""
    with contextlib.suppress(KeyError):
        pwd.getpwnam(name)
        subprocess.run(["userdel", name], check=True)
