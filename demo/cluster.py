"""A master and two minions on free ports, with everything they own in one folder."""

from __future__ import annotations

import os
import shlex
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import yaml

CHECKOUT = Path(__file__).resolve().parent.parent
MINIONS = ("db1", "web1")
FORMULA_DIRS = ("_engines", "_modules", "_runners", "_states", "_utils", "storage")
#: Seconds. Daemons that end are noticed at once; a busy machine may take minutes to start them,
#: and this is for daemons that hang.
START_TIMEOUT = 600

STORAGE_CONF = """\
engines:
  - storage: {{}}
storage:
  backends:
    local:
      volume_driver: saltstorage.drivers.file.FileDriver
      file_driver_path: {root}/volumes
"""

PILLAR = """\
storage:
  volumes:
    data:
      size: 1GiB
      mount: {root}/{{{{ grains.id }}}}/srv
      fstype: xfs
"""


class Cluster:
    """The daemons and the commands that talk to them, all run in the folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.daemons: list[subprocess.Popen[bytes]] = []
        #: Sessions of the daemons, by which their processes are found again: Salt's daemons leave
        #: the folder.
        self.sessions: list[int] = []
        self.env = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}:/usr/sbin:/sbin"}
        # Only the synced package may be imported.
        self.env.pop("PYTHONPATH", None)
        publish_port, ret_port = _free_ports(2)
        for name in ("formula", "etc/master.d", "pillar", "master/var/cache/salt/master/proc"):
            (root / name).mkdir(parents=True)
        for name in FORMULA_DIRS:
            (root / "formula" / name).symlink_to(CHECKOUT / name)
        self._write("pillar/top.sls", {"base": {"*": ["volumes"]}})
        (root / "pillar" / "volumes.sls").write_text(PILLAR.format(root=root))
        (root / "etc" / "master.d" / "storage.conf").write_text(STORAGE_CONF.format(root=root))
        self._write(
            "etc/master",
            {
                "root_dir": str(root / "master"),
                "user": "root",
                # Salt's own commands warn of objects that they do not close.
                "log_level": "error",
                "interface": "127.0.0.1",
                "publish_port": publish_port,
                "ret_port": ret_port,
                "auto_accept": True,
                # A minion of a busy machine takes longer than 10 s to say that it is still at
                # work.
                "gather_job_timeout": 120,
                "worker_threads": 3,
                "file_roots": {"base": [str(root / "formula")]},
                "pillar_roots": {"base": [str(root / "pillar")]},
            },
        )
        for minion in MINIONS:
            own = root / minion
            own.mkdir()
            self._write(
                f"{minion}/minion",
                {
                    "id": minion,
                    "root_dir": str(own),
                    "user": "root",
                    "master": "127.0.0.1",
                    "master_port": ret_port,
                    "publish_port": publish_port,
                    "acceptance_wait_time": 1,
                    "enable_fqdns_grains": False,
                    # The minions share this machine: each has its own /dev/storage and fstab.
                    "storage": {"consumer": {"device_dir": str(own / "dev"), "fstab": str(own / "fstab")}},
                },
            )

    def start(self) -> None:
        """Start the daemons and return when both minions can be reached.

        :raises RuntimeError: a daemon ended or did not come up.
        """
        import salt.config
        import salt.utils.event

        for command in ("salt-master -c etc", *(f"salt-minion -c {minion}" for minion in MINIONS)):
            with (self.root / f"{command.split()[0]}-{command.split()[-1]}.out").open("wb") as out:
                self.daemons.append(self._start(f"{command} -l quiet", out, out))
        opts = salt.config.client_config(str(self.root / "etc" / "master"))
        waiting = set(MINIONS)
        deadline = time.monotonic() + START_TIMEOUT
        with salt.utils.event.get_master_event(opts, opts["sock_dir"], listen=True) as bus:
            while waiting:
                event = bus.get_event(wait=0.5, tag="salt/minion/", full=True, auto_reconnect=True)
                if event and event["tag"].endswith("/start"):
                    waiting.discard(event["data"]["id"])
                if time.monotonic() > deadline or any(daemon.poll() is not None for daemon in self.daemons):
                    raise RuntimeError(f"not up: {', '.join(waiting)}\n{self.logs()}")

    def run(self, command: str) -> tuple[int, str]:
        """Run a command line in the folder; return its exit code and its output, errors
        included.
        """
        process = self._start(command, subprocess.PIPE, subprocess.STDOUT)
        output, _ = process.communicate()
        self.sessions.remove(process.pid)
        return process.returncode, output.decode(errors="replace")

    def _start(self, command: str, stdout: Any, stderr: Any) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            shlex.split(command),
            cwd=self.root,
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            start_new_session=True,
        )
        self.sessions.append(process.pid)
        return process

    def logs(self) -> str:
        """Return the ends of the daemons' logs."""
        found = [*self.root.glob("*/var/log/salt/m*"), *self.root.glob("*.out")]
        return "\n".join(f"{path}:\n{path.read_text(errors='replace')[-3000:]}" for path in found)

    def _write(self, name: str, data: dict[str, Any]) -> None:
        (self.root / name).write_text(yaml.safe_dump(data))


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for sock in sockets:
        sock.bind(("127.0.0.1", 0))
    ports = [int(sock.getsockname()[1]) for sock in sockets]
    for sock in sockets:
        sock.close()
    return ports
