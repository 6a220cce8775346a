"""The controller outside of the guests, at the machine's own speed: a salt-master with the
storage engine, and tgtd.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

from . import network
from .guest import BIN, CHECKOUT, Guest, LabError, wait_for

FORMULA = ("_engines", "_modules", "_runners", "_states", "_utils", "storage")


class Controller:
    """A salt-master with the storage engine.

    :param folder: for all that it owns; short, since sockets lie in it.
    :param backends: of the master's option ``storage``.
    :param commands: folder with Salt's commands.
    :param address: where minions find the master.
    :param storage: its other keys.
    """

    def __init__(
        self, folder: Path, backends: dict[str, Any], *, commands: Path = BIN, address: str = network.OUTSIDE[0], **storage: Any
    ) -> None:
        self.folder = folder
        self.commands = commands
        self.address = address
        self.config_dir = folder / "etc"
        self.backends = backends
        self.process: subprocess.Popen[bytes] | None = None
        self._client: Any = None
        for name in ("etc", "formula", "states", "pillar", "m/var/cache/salt/master/proc"):
            (folder / name).mkdir(parents=True)
        for name in FORMULA:
            (folder / "formula" / name).symlink_to(CHECKOUT / name)
        self.pillar({})
        self.configure(backends, **storage)

    def configure(self, backends: dict[str, Any], **storage: Any) -> None:
        """Write the master's configuration; it counts from the next start."""
        self.backends = backends
        engine = {
            "engines": [{"storage": {}}],
            "storage": {"state_dir": str(self.folder / "controller"), "backends": backends, **storage},
        }
        (self.config_dir / "master").write_text(json.dumps({**self.general(), **engine}))

    def general(self) -> dict[str, Any]:
        """Return the master's configuration without the storage engine."""
        return {
            "root_dir": str(self.folder / "m"),
            "user": "root",
            "interface": self.address,
            "auto_accept": True,
            "worker_threads": 3,
            "log_level_logfile": "info",
            "timeout": 60,
            "gather_job_timeout": 30,
            "file_roots": {"base": [str(self.folder / "states"), str(self.folder / "formula")]},
            "pillar_roots": {"base": [str(self.folder / "pillar")]},
        }

    # Power.

    def start(self, *, sync: bool = False) -> None:
        """Start the master and return when its engine runs."""
        if sync:
            self.run("saltutil.sync_all")
        with (self.folder / "master.out").open("ab") as out:
            self.process = subprocess.Popen(
                [str(self.commands / "salt-master"), "-c", str(self.config_dir), "-l", "quiet"],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env=self.environment(),
                start_new_session=True,
            )

    def stop(self) -> None:
        """Stop the master, as when its machine goes down."""
        if self._client is not None:
            self._client.destroy()
            self._client = None
        if self.process is not None:
            self.process.terminate()
            self.process.wait(60)
            self.process = None

    # Requests to it.

    def run(self, function: str, *args: str, timeout: float = 180) -> Any:
        """Run ``salt-run FUNCTION …`` and return its output.

        :raises LabError: it failed.
        """
        done = self.ran(function, *args, timeout=timeout)
        if done.returncode:
            raise LabError(f"salt-run {function} {' '.join(args)}: exit code {done.returncode}\n{done.stdout}\n{done.stderr}")
        return json.loads(done.stdout)

    def ran(self, function: str, *args: str, timeout: float = 180) -> subprocess.CompletedProcess[str]:
        """Run ``salt-run FUNCTION …`` and return all that it gave."""
        command = [str(self.commands / "salt-run"), "-c", str(self.config_dir), "--out=json", "-l", "error", function, *args]
        return subprocess.run(command, capture_output=True, text=True, timeout=timeout, env=self.environment(), check=False)

    def job(self, guest: Guest | str, function: str, *args: Any, timeout: float = 300, **kwargs: Any) -> Any:
        """Run a function as ``salt GUEST FUNCTION …`` does; return the minion's answer."""
        import salt.client

        name = guest if isinstance(guest, str) else guest.name
        if self._client is None:
            self._client = salt.client.LocalClient(str(self.config_dir / "master"))
        found = self._client.cmd(name, function, args, timeout=timeout, kwarg=kwargs)
        if name not in found:
            raise LabError(f"no reply of {name} to {function}")
        return found[name]

    def jobs(self, guests: list[Guest], function: str, *args: Any, timeout: float = 300, **kwargs: Any) -> dict[str, Any]:
        """Run a function as ``salt -L GUESTS FUNCTION …`` does; return each minion's answer."""
        import salt.client

        names = [guest.name for guest in guests]
        if self._client is None:
            self._client = salt.client.LocalClient(str(self.config_dir / "master"))
        found: dict[str, Any] = self._client.cmd(names, function, args, timeout=timeout, kwarg=kwargs, tgt_type="list")
        if missing := set(names) - set(found):
            raise LabError(f"no reply of {', '.join(missing)} to {function}")
        return found

    def state(self, guest: Guest, function: str, name: str, **kwargs: Any) -> dict[str, Any]:
        """Apply one state on a guest, as ``state.single`` does, and return its result."""
        found = self.job(guest, "state.single", function, name, **kwargs)
        if not isinstance(found, dict):
            raise LabError(f"{function} {name} on {guest.name}: {found}")
        (result,) = found.values()
        return result

    def pillar(self, storage: dict[str, Any]) -> None:
        """Write the pillar ``storage`` of all minions."""
        (self.folder / "pillar" / "top.sls").write_text(json.dumps({"base": {"*": ["lab"]}}))
        (self.folder / "pillar" / "lab.sls").write_text("#!json\n" + json.dumps({"storage": storage}))

    def wait_for_minions(self, guests: list[Guest], timeout: float = 240) -> None:
        """Return when the minions answer."""

        def up() -> bool:
            names = ",".join(guest.name for guest in guests)
            done = subprocess.run(
                [str(self.commands / "salt"), "-c", str(self.config_dir), "--out=json", "--static", "-t", "15", "-L", names, "test.ping"],
                capture_output=True,
                text=True,
                env=self.environment(),
                check=False,
            )
            try:
                found = json.loads(done.stdout)
            except ValueError:
                return False
            return all(found.get(guest.name) is True for guest in guests)

        wait_for(up, "the minions to answer", timeout)

    def save_logs(self, folder: Path) -> None:
        """Keep the controller's logs."""
        folder.mkdir(parents=True, exist_ok=True)
        for path in (*self.folder.glob("*.out"), *self.folder.glob("m/var/log/salt/*")):
            shutil.copy(path, folder / path.name)

    def environment(self) -> dict[str, str]:
        """Return the environment of Salt's commands: they must import the synced package, not the
        tests' own.
        """
        found = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        found["PATH"] = f"{self.commands}:/usr/sbin:/sbin:{found['PATH']}"
        return found
