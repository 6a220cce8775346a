"""A site on Salt's packages, or rather on the stand-ins of ``onedir.py``: a master, with its host's
own minion, on the lab's machine, and a consumer in a guest.

Nothing has the project's packages in Salt's own Python, so there are storage environments, made
by the formula's SLS from the distribution's Python.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

from . import network
from .controller import Controller
from .guest import CHECKOUT, Guest, LabError
from .lab import FOLDER, failed, listen, start_tgtd, tgtd_answers

ONEDIRS = CHECKOUT / "build/lab/onedir"
WHEELS = CHECKOUT / "build/lab/wheels"
#: Where Salt's packages are.
SALT = Path("/opt/saltstack/salt")
#: The lab's other master has the first address.
ADDRESS = f"{network.NETWORKS[0]}.2"
LOOKUP = {"environment": {"wheels": str(WHEELS)}}


class Master(Controller):
    """The master and its host's minion ``master1``: one root of Salt's, with Salt's folder, the
    storage environment and the configuration below it.

    :ivar environment_folder: the storage environment.
    """

    def __init__(self, folder: Path, san: dict[str, Any]) -> None:
        self.root = folder / "m"
        self.environment_folder = self.root / "opt/salt-storage"
        super().__init__(folder, {"san": san}, commands=self.root / SALT.relative_to("/"), address=ADDRESS)
        minion = {"id": "master1", "root_dir": str(self.root), "user": "root", "master": ADDRESS, "log_level_logfile": "info"}
        (self.config_dir / "minion").write_text(json.dumps(minion))

    def configure(self, backends: dict[str, Any], **storage: Any) -> None:
        """Write the master's configuration; the SLS writes that of the engine."""
        self.backends = backends
        (self.config_dir / "master").write_text(json.dumps(self.general()))

    def install(self, version: str) -> None:
        """Install Salt's packages, or have them take the place of others, while nothing of Salt
        runs.
        """
        shutil.rmtree(self.commands, ignore_errors=True)
        shutil.copytree(ONEDIRS / version, self.commands, symlinks=True)

    def pillar(self, storage: dict[str, Any]) -> None:
        """Write the pillar ``storage`` of all minions but the master's own, whose is the
        controller's configuration.
        """
        lookup = {
            "config": str(self.config_dir / "storage" / "controller.yaml"),
            "master_config": str(self.config_dir / "master.d" / "storage.conf"),
            "state_dir": str(self.folder / "controller"),
            # The scenario starts it: there is no systemd outside of the guests.
            "service": "",
        }
        pillars = {
            "consumer": {**storage, "lookup": LOOKUP},
            "controller": {"controller": {"backends": self.backends}, "lookup": {**LOOKUP, "controller": lookup}},
        }
        top = {"base": {"* and not master1": [{"match": "compound"}, "consumer"], "master1": ["controller"]}}
        (self.folder / "pillar" / "top.sls").write_text(json.dumps(top))
        for name, data in pillars.items():
            (self.folder / "pillar" / f"{name}.sls").write_text("#!json\n" + json.dumps({"storage": data}))

    def call(self, function: str, *args: str, timeout: float = 600) -> Any:
        """Run ``salt-call FUNCTION …`` on the master's host and return its output."""
        command = [str(self.commands / "salt-call"), "-c", str(self.config_dir), "--out=json", "-l", "error", function, *args]
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, env=self.environment(), check=False)
        try:
            return json.loads(done.stdout)["local"]
        except (ValueError, KeyError):
            raise LabError(f"salt-call {function}: exit code {done.returncode}\n{done.stdout}\n{done.stderr}") from None

    def job(self, guest: Guest | str, function: str, *args: Any, timeout: float = 300, **kwargs: Any) -> Any:
        """Run a function by ``salt``, which has the master's release, and return its answer."""
        name = guest if isinstance(guest, str) else guest.name
        words = [*map(str, args), *(f"{key}={value}" for key, value in kwargs.items())]
        head = [str(self.commands / "salt"), "-c", str(self.config_dir), "--out=json", "--static", "-t", f"{timeout:.0f}"]
        done = subprocess.run([*head, name, function, *words], capture_output=True, text=True, env=self.environment(), check=False)
        try:
            return json.loads(done.stdout)[name]
        except (ValueError, KeyError):
            raise LabError(f"no reply of {name} to {function}\n{done.stdout}\n{done.stderr}") from None

    def save_logs(self, folder: Path) -> None:
        """Keep the controller's logs, and its configuration."""
        super().save_logs(folder)
        for path in self.config_dir.rglob("*"):
            if path.is_file():
                shutil.copy(path, folder / f"config-{path.name}")


class Site:
    """The master, and the consumer ``up1``, with multipath.

    :ivar volumes: folder of the SAN's volumes.
    """

    def __init__(self) -> None:
        network.make()
        folder = FOLDER / "up"
        self.volumes = folder / "volumes"
        self.volumes.mkdir(parents=True, mode=0o700)
        (folder / "up1").mkdir()
        san = {
            "volume_driver": "saltstorage.drivers.file_iscsi.FileISCSIDriver",
            "file_driver_path": str(self.volumes),
            "target_ip_address": network.OUTSIDE[0],
            "target_secondary_ip_addresses": [network.OUTSIDE[1]],
        }
        self.master = Master(folder / "c", san)
        self.consumer = Guest("up1", 31, folder / "up1", commands=SALT)
        self.consumers = [self.consumer]
        self.tgtd: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start all, with packages of 3006, and return when the consumer is ready to attach."""
        for version in ("3006", "3008"):
            self.consumer.tree(f"/opt/salt{version}", ONEDIRS / version)
        self.consumer.minion({"master": ADDRESS, "storage": {"consumer": {"answer_timeout": 60}}})
        self.consumer.start()
        if not tgtd_answers():
            self.tgtd = start_tgtd(FOLDER / "up" / "c" / "tgtd.out")
            listen()
        network.ip("address", "add", f"{ADDRESS}/{network.PREFIX}", "dev", "lab0")
        master = self.master
        self.volumes_pillar({})
        master.install("3006")
        master.start(sync=True)
        self.consumer.wait()
        self.install("3006")
        master.call("saltutil.sync_all")
        failed("master1", master.call("state.apply", "storage.controller"))
        # It reads the engine's configuration when it starts.
        master.stop()
        master.start()
        master.wait_for_minions(self.consumers)
        master.job(self.consumer, "saltutil.sync_all")
        failed("up1", master.job(self.consumer, "state.apply", "storage.consumer", timeout=600))

    def install(self, version: str) -> None:
        """Install Salt's packages on the consumer, or have them take the place of others, and
        start the minion, as packages do.
        """
        unpacked = f"/opt/salt{version}"
        commands = f"systemctl stop salt-minion; rm -rf {SALT} && mkdir -p {SALT.parent} && mv {unpacked} {SALT}"
        self.consumer.run(f"{commands} && systemctl reset-failed; systemctl start salt-minion", timeout=240)

    def volumes_pillar(self, volumes: dict[str, Any]) -> None:
        """Write the pillar of the consumer."""
        self.master.pillar({"consumer": {"protocols": ["iscsi", "multipath"]}, "volumes": volumes})

    def apply(self) -> dict[str, Any]:
        """Apply the consumer's pillar and return the changes, by state.

        :raises LabError: a state failed.
        """
        result = self.master.job(self.consumer, "state.apply", "storage.volumes")
        failed("up1", result)
        return changes(result)

    def stop(self) -> None:
        """Stop all."""
        self.consumer.kill()
        self.master.stop()
        if self.tgtd is not None:
            self.tgtd.kill()
            self.tgtd.wait()

    def save_logs(self, folder: Path) -> None:
        """Keep the logs of both hosts."""
        self.consumer.save_logs(folder / "up1")
        self.master.save_logs(folder / "controller")


def changes(result: dict[str, Any]) -> dict[str, Any]:
    """Return the changes in a return of ``state.apply``, by state."""
    return {entry["__id__"]: entry["changes"] for entry in result.values() if entry["changes"]}
