"""A guest: a Linux kernel as a process (user-mode Linux) with real systemd and udev, over the
machine's own files.

The machine's root is the guest's, read-only; the guest's writes go to a disk of its own, which
lives on when the guest reboots or is killed.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import network

CHECKOUT = Path(__file__).resolve().parents[2]
BIN = CHECKOUT / ".venv" / "bin"
LOGS = CHECKOUT / "build" / "lab" / "logs"
AGENT_PORT = 9000
BOOT_TIMEOUT = 180
#: The machine's services that have no business in a guest, or cost its boot seconds.
MASKED = (Path(__file__).parent / "masked-units").read_text().split()

NETWORK_UNIT = """\
[Unit]
Description=Network of the lab
DefaultDependencies=no
After=systemd-udevd.service
Before=network.target network-online.target
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh -c '{commands}'
[Install]
WantedBy=network-online.target
"""

AGENT_UNIT = """\
[Unit]
Description=Agent of the lab
DefaultDependencies=no
Wants=lab-network.service
After=lab-network.service
[Service]
ExecStart={bin}/python -S {checkout}/tests/lab/agent.py {address} {port}
[Install]
WantedBy=multi-user.target
"""

MINION_UNIT = """\
[Unit]
Description=The Salt Minion
Wants=network-online.target
After=network-online.target
[Service]
Environment=PYTHONDONTWRITEBYTECODE=1
ExecStart={bin}/salt-minion --config-dir=/etc/salt --log-level=quiet
KillMode=process
Restart=on-failure
[Install]
WantedBy=multi-user.target
"""


class LabError(Exception):
    """A guest did not carry out the lab's request."""


@dataclass(frozen=True)
class Ran:
    """The outcome of a command in a guest."""

    code: int
    output: str


class Guest:
    """One guest.

    :param name: host name, and id of its minion.
    :param number: last part of its addresses.
    :param folder: for its disk and its console log.
    :param memory: MiB.
    :param disk: size of its own disk, GiB; sparse.
    :param more_disks: sizes of further disks, GiB: files ``disk1`` and on in the folder, kept
        when there; ``/dev/ubdb`` and on.
    :param commands: folder with Salt's commands, in the guest.
    """

    def __init__(
        self,
        name: str,
        number: int,
        folder: Path,
        *,
        memory: int = 1536,
        disk: int = 8,
        more_disks: tuple[int, ...] = (),
        commands: Path = BIN,
    ) -> None:
        self.name = name
        self.addresses = tuple(f"{net}.{number}" for net in network.NETWORKS)
        self.folder = folder
        self.memory = memory
        self.disk = disk
        self.more_disks = more_disks
        self.commands = commands
        self.initiator = f"iqn.2024-01.test.lab:{name}"
        self.files: dict[str, str] = {}
        self.trees: dict[str, Path] = {}
        self.units: dict[str, str] = {}
        self.process: subprocess.Popen[bytes] | None = None
        self._taps: list[str] = []
        self._base()

    def file(self, path: str, text: str) -> None:
        """Give the guest a file, before its first boot."""
        self.files[path] = text

    def tree(self, path: str, source: Path) -> None:
        """Give the guest a copy of a folder, before its first boot."""
        self.trees[path] = source

    def unit(self, name: str, text: str) -> None:
        """Give the guest a unit that is enabled, before its first boot."""
        self.units[name] = text

    def minion(self, config: dict[str, Any]) -> None:
        """Let the guest run a salt-minion with this configuration."""
        own = {"id": self.name, "log_level_logfile": "info"}
        self.file("/etc/salt/minion", json.dumps({**own, **config}))
        self.unit("salt-minion.service", MINION_UNIT.format(bin=self.commands))

    # Power.

    def start(self) -> None:
        """Switch the guest on; see :meth:`wait`."""
        disk = self.folder / "disk"
        if not disk.exists():
            self._make_disk(disk)
        if not self._taps:
            self._taps = network.add_taps(self.name)
        with (self.folder / "console.log").open("ab") as console:
            self.process = subprocess.Popen(
                [
                    "linux.uml",
                    f"umid={self.name}",
                    f"mem={self.memory}M",
                    f"ubd0={disk}",
                    *(f"ubd{n}={self.folder}/disk{n}" for n in range(1, len(self.more_disks) + 1)),
                    "root=/dev/root",
                    "rootfstype=hostfs",
                    "rootflags=/",
                    "ro",
                    "con=null",
                    "con0=null,fd:1",
                    f"init={CHECKOUT}/tests/lab/guest-init.sh",
                    f"checkout={CHECKOUT}",
                    *(f"vec{n}:transport=tap,ifname={tap},mac={self._mac(n)},depth=128,gro=1" for n, tap in enumerate(self._taps)),
                ],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=subprocess.STDOUT,
                env={**os.environ, "TMPDIR": "/dev/shm", "HOME": "/run", "LD_PRELOAD": str(CHECKOUT / "build/lab/registers.so")},
                start_new_session=True,
            )

    def wait(self, timeout: float = BOOT_TIMEOUT) -> None:
        """Return when the guest's agent answers."""

        def up() -> bool:
            if self.process is None or self.process.poll() is not None:
                raise LabError(f"{self.name} ended; see {self.folder}/console.log")
            return self._try()

        wait_for(up, f"{self.name} to boot", timeout)

    def kill(self) -> None:
        """Pull the plug: nothing in the guest gets a chance to end well."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None

    def stop(self, timeout: float = 120) -> None:
        """Shut the guest down as its administrator would."""
        process = self.process
        if process is None:
            return
        with contextlib.suppress(OSError):
            self.ran("systemctl poweroff", timeout=20)
        try:
            process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise LabError(f"{self.name} did not shut down in {timeout:g} s; see {self.folder}/console.log") from None
        self.process = None

    def reboot(self) -> None:
        """Shut the guest down and boot it again from the same disk.

        Not by ``reboot``: that kernel would start itself anew in the same process, which still
        holds the network devices.
        """
        self.stop()
        self.start()
        self.wait()

    # Work in it.

    def ran(self, command: str, *, timeout: float = 120, input: str = "") -> Ran:
        """Run a shell command as root and return its exit code and output, errors included."""
        found = self._ask({"do": "run", "command": command, "timeout": timeout, "input": input}, timeout + 10)
        return Ran(found["code"], found["output"])

    def run(self, command: str, *, timeout: float = 120, input: str = "") -> str:
        """Run a shell command as root and return its output.

        :raises LabError: it failed.
        """
        done = self.ran(command, timeout=timeout, input=input)
        if done.code:
            raise LabError(f"{self.name}: {command}: exit code {done.code}\n{done.output}")
        return done.output

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        """Write a file in the running guest."""
        self._ask({"do": "write", "path": path, "text": text, "mode": mode}, 30)

    def shell(self, request: dict[str, Any]) -> socket.socket:
        """Return a connection to a shell on a terminal in the guest."""
        connection = self._connect(30)
        connection.sendall(json.dumps({"do": "shell", **request}).encode() + b"\n")
        connection.settimeout(None)
        return connection

    def save_logs(self, folder: Path) -> None:
        """Keep the guest's logs; a guest that does not answer leaves its console."""
        folder.mkdir(parents=True, exist_ok=True)
        if (self.folder / "console.log").exists():
            shutil.copy(self.folder / "console.log", folder / "console.log")
        commands = {
            "journal": "journalctl --no-pager --output=short-monotonic",
            "kernel": "dmesg",
            "minion": "cat /var/log/salt/minion",
            "master": "cat /var/log/salt/master",
            "devices": "lsblk; ls -lR /dev/disk /dev/storage; iscsiadm -m session -P 3; iscsiadm -m node; multipath -ll; dmsetup table",
            "mounts": "cat /etc/fstab; findmnt",
        }
        for name, command in commands.items():
            with contextlib.suppress(OSError):
                (folder / f"{name}.log").write_text(self.ran(f"({command}) 2>&1", timeout=30).output)

    # Within.

    def _base(self) -> None:
        commands = "; ".join(
            f"ip link set vec{n} up && ip address add {address}/{network.PREFIX} dev vec{n}" for n, address in enumerate(self.addresses)
        )
        self.unit("lab-network.service", NETWORK_UNIT.format(commands=commands))
        self.unit("lab-agent.service", AGENT_UNIT.format(bin=BIN, checkout=CHECKOUT, address=self.addresses[0], port=AGENT_PORT))
        self.file("/etc/hostname", self.name + "\n")
        self.file("/etc/hosts", f"127.0.0.1 localhost\n{network.OUTSIDE[0]} salt\n{self.addresses[0]} {self.name}\n")
        self.file("/etc/resolv.conf", "")
        self.file("/etc/fstab", "")
        self.file("/etc/machine-id", "")
        self.file("/etc/iscsi/initiatorname.iscsi", f"InitiatorName={self.initiator}\n")
        self.file("/etc/systemd/journald.conf.d/lab.conf", "[Journal]\nStorage=volatile\nForwardToConsole=yes\nMaxLevelConsole=notice\n")
        self.file("/etc/systemd/system.conf.d/lab.conf", "[Manager]\nDefaultTimeoutStopSec=20s\n")

    def _make_disk(self, disk: Path) -> None:
        tree = self.folder / "tree"
        for path, text in self.files.items():
            target = tree / "up" / path.lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text)
        for path, source in self.trees.items():
            shutil.copytree(source, tree / "up" / path.lstrip("/"), symlinks=True)
        (tree / "up" / "usr/local/bin").mkdir(parents=True)
        for command in ("salt-call", "salt-minion", "salt", "salt-run", "salt-key", "salt-master", "cinder-rtstool"):
            (tree / "up" / "usr/local/bin" / command).symlink_to(self.commands / command)
        units = tree / "units"
        (units / "multi-user.target.wants").mkdir(parents=True)
        (units / "network-online.target.wants").mkdir()
        for name, text in self.units.items():
            (units / name).write_text(text)
            target = "network-online.target" if "WantedBy=network-online.target" in text else "multi-user.target"
            (units / f"{target}.wants" / name).symlink_to(f"../{name}")
        # As distributions have it; a guest runs no other unit that the machine has enabled.
        (units / "multi-user.target.wants" / "remote-fs.target").symlink_to("/lib/systemd/system/remote-fs.target")
        for name in MASKED:
            (units / name).symlink_to("/dev/null")
        for name in ("work", "root"):
            (tree / name).mkdir()
        for path, size in ((disk, self.disk), *((self.folder / f"disk{n}", size) for n, size in enumerate(self.more_disks, 1))):
            with path.open("ab") as file:  # an existing disk stays as it is
                file.truncate(size * 2**30)
        options = ["-q", "-F", "-E", "lazy_itable_init=1,nodiscard", "-O", "^metadata_csum", "-m", "0"]
        subprocess.run(["mke2fs", "-t", "ext4", *options, "-d", str(tree), str(disk)], check=True)
        shutil.rmtree(tree)

    def _mac(self, network_number: int) -> str:
        """Return the same address in each boot, or the others would look for the guest under its
        old one.
        """
        return f"02:00:0a:4d:{network_number:02x}:{int(self.addresses[0].rsplit('.', 1)[1]):02x}"

    def _try(self) -> bool:
        with contextlib.suppress(OSError, ValueError):
            return self._ask({"do": "ping"}, 5) == {}
        return False

    def _connect(self, timeout: float) -> socket.socket:
        return socket.create_connection((self.addresses[0], AGENT_PORT), timeout=timeout)

    def _ask(self, request: dict[str, Any], timeout: float) -> dict[str, Any]:
        with self._connect(min(timeout, 20)) as connection:
            connection.settimeout(timeout)
            connection.sendall(json.dumps(request).encode() + b"\n")
            with connection.makefile("rb") as file:
                line = file.readline()
        if not line:
            raise ConnectionError(f"{self.name} closed the connection")
        found: dict[str, Any] = json.loads(line)
        return found


def wait_for(condition: Callable[[], bool], what: str, timeout: float) -> None:
    """Return when the condition holds.

    :raises LabError: it did not within ``timeout`` seconds.
    """
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise LabError(f"waited {timeout:g} s for {what}")
        time.sleep(0.2)
