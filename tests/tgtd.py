"""A tgtd of one's own, which neither knows nor disturbs another one of the machine; and an
initiator in user space.
"""

from __future__ import annotations

import os
import re
import subprocess
import time
from pathlib import Path
from typing import Any

#: Seconds. A daemon that ends is noticed at once.
START_TIMEOUT = 300


class Tgtd:
    """The daemon; a process with :attr:`socket` as TGT_IPC_SOCKET in its environment
    talks to it.
    """

    def __init__(self, folder: Path, port: int) -> None:
        self.socket = str(folder / "tgtd")
        self.port = port
        self.log = folder / "tgtd.log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = ["tgtd", "--foreground", "--iscsi", f"portal=127.0.0.1:{self.port}"]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, env=self.env(), stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        deadline = time.monotonic() + START_TIMEOUT
        while self.adm("--mode", "sys", "--op", "show", check=False).returncode:
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.02)

    def kill(self) -> None:
        """End it as a crash does."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def env(self) -> dict[str, str]:
        return {**os.environ, "TGT_IPC_SOCKET": self.socket}

    def adm(self, *options: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["tgtadm", "--lld", "iscsi", *options], env=self.env(), check=check, capture_output=True, text=True)

    def show(self) -> str:
        return self.adm("--mode", "target", "--op", "show").stdout


class Host:
    """A host with an initiator name, which works through libiscsi's commands."""

    def __init__(self, name: str, port: int) -> None:
        self.name = name
        self.initiator = f"iqn.2005-03.org.open-iscsi:{name}"
        self.connector = {"host": name, "initiator": self.initiator, "multipath": False}
        self.port = port

    def discover(self) -> list[str]:
        """Return the names of the targets that the portal shows to this host."""
        done = self._run("iscsi-ls", f"iscsi://127.0.0.1:{self.port}")
        return re.findall(r"^Target:(\S+)", done.stdout, re.MULTILINE)

    def url(self, info: dict[str, Any], *, password: str = "") -> str:
        data = info["data"]
        user, secret = data["auth_username"], password or data["auth_password"]
        return f"iscsi://{user}%{secret}@{data['target_portal']}/{data['target_iqn']}/{data['target_lun']}"

    def size(self, info: dict[str, Any], **how: Any) -> int | None:
        """Log in and return the size in bytes; None when that is refused."""
        return self.size_at(self.url(info, **how))

    def size_at(self, url: str) -> int | None:
        found = re.search(r"^Total size:(\d+)", self._run("iscsi-readcapacity16", url).stdout, re.MULTILINE)
        return int(found[1]) if found else None

    def inquiry(self, info: dict[str, Any], page: int | None = None) -> str:
        options = ["-e", "1", "-c", str(page)] if page is not None else []
        return self._run("iscsi-inq", *options, self.url(info)).stdout

    def read_on(self, info: dict[str, Any], log: Path) -> subprocess.Popen[bytes]:
        """Read without end, and stop at the first error; the session is made again when it is
        lost.
        """
        with log.open("wb") as file:
            return subprocess.Popen(["stdbuf", "-oL", "iscsi-perf", "-i", self.initiator, self.url(info)], stdout=file, stderr=file)

    def _run(self, program: str, *options: str) -> subprocess.CompletedProcess[str]:
        command = [program, "-i", self.initiator, *options]
        return subprocess.run(command, check=False, capture_output=True, text=True, errors="replace", timeout=60)
