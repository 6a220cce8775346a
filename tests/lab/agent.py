"""What runs in a guest and does what the lab asks for: commands, files, and a prompt for a person. Only the standard library.

One connection is one request: a line of JSON, then the answer.  It listens on the private network of the lab and nowhere else.
"""

from __future__ import annotations

import fcntl
import json
import os
import pty
import select
import socket
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
        fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", request["rows"], request["columns"], 0, 0))
        relay(self.connection, master)
        os.close(master)
        os.waitpid(pid, 0)


def relay(sock: socket.socket, fd: int, fd_out: int | None = None) -> None:
    """Copy between a socket and a terminal until either ends."""
    out = fd if fd_out is None else fd_out
    while True:
        ready, _, _ = select.select([sock, fd], [], [])
        try:
            if fd in ready:
                data = os.read(fd, 4096)
                if not data:
                    return
                sock.sendall(data)
            if sock in ready:
                data = sock.recv(4096)
                if not data:
                    return
                os.write(out, data)
        except OSError:
            return


class Server(socketserver.ThreadingTCPServer):
    """The agent's server."""

    allow_reuse_address = True
    daemon_threads = True


if __name__ == "__main__":
    os.environ["PATH"] = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    with Server((sys.argv[1], int(sys.argv[2])), Handler) as server:
        server.serve_forever()
