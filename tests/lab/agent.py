"""The lab's agent in a guest: runs commands, moves files, and gives a person a prompt. Only the
standard library.

One connection is one request: a line of JSON, then the answer.  It listens on the private network
of the lab and nowhere else.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import select
import socketserver
import struct
import subprocess
import sys
import termios
from typing import Any


class Handler(socketserver.StreamRequestHandler):
    """One request."""

    def handle(self) -> None:
        request = json.loads(self.rfile.readline())
        if request["do"] == "shell":
            self._shell(request)
            return
        answer = {"run": self._run, "write": self._write, "ping": lambda _: {}}[request["do"]](request)
        self.wfile.write(json.dumps(answer).encode() + b"\n")

    def _run(self, request: dict[str, Any]) -> dict[str, Any]:
        try:
            done = subprocess.run(
                ["/bin/sh", "-c", request["command"]],
                input=request.get("input", "").encode(),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=request["timeout"],
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            return {"code": 124, "output": (error.output or b"").decode(errors="replace") + "\n[timed out]"}
        return {"code": done.returncode, "output": done.stdout.decode(errors="replace")}

    def _write(self, request: dict[str, Any]) -> dict[str, Any]:
        os.makedirs(os.path.dirname(request["path"]), exist_ok=True)
        with open(request["path"], "w", encoding="utf-8") as file:
            file.write(request["text"])
        os.chmod(request["path"], request["mode"])
        return {}

    def _shell(self, request: dict[str, Any]) -> None:
        pid, master = pty.fork()
        if pid == 0:
            os.chdir("/root")
            os.execve("/bin/bash", ["bash", "-l"], {**os.environ, "HOME": "/root", "TERM": request["term"], "PS1": r"\h:\w\$ "})  # noqa: S606
        resize(master, request["rows"], request["columns"])
        relay(master, master, self.connection.fileno())
        os.close(master)
        os.waitpid(pid, 0)


def resize(terminal: int, rows: int, columns: int) -> None:
    """Tell a terminal its size."""
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


def relay(near: int, near_out: int, far: int) -> None:
    """Copy between a terminal and a connection until either ends; a terminal whose last process
    ended is an error to read.
    """
    to = {near: far, far: near_out}
    with contextlib.suppress(OSError):
        while True:
            ready, _, _ = select.select(list(to), [], [])
            for fd in ready:
                data = os.read(fd, 4096)
                if not data:
                    return
                while data:
                    data = data[os.write(to[fd], data) :]


class Server(socketserver.ThreadingTCPServer):
    """The agent's server."""

    allow_reuse_address = True
    daemon_threads = True


if __name__ == "__main__":
    os.environ["PATH"] = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    with Server((sys.argv[1], int(sys.argv[2])), Handler) as server:
        server.serve_forever()
