"""The work of ``salt`` and ``salt-run`` in a guest with a salt-master, for the lab: one process for
all of them.

Starting each of these commands costs ten seconds in a guest. One connection is one job: a line of
JSON, then the answer.
"""

from __future__ import annotations

import json
import socketserver
import sys
from typing import Any

import salt.client
import salt.config
import salt.runner


class Handler(socketserver.StreamRequestHandler):
    """One job."""

    options: dict[str, Any]

    def handle(self) -> None:
        request = json.loads(self.rfile.readline())
        try:
            answer = {"return": self._do(request)}
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        self.wfile.write(json.dumps(answer, default=str).encode() + b"\n")

    def _do(self, request: dict[str, Any]) -> Any:
        function, args, kwargs = request["function"], request["args"], request["kwargs"]
        if "minions" in request:
            # Made anew: it reads the key that the master makes when it starts.
            with salt.client.LocalClient(mopts=self.options) as client:
                return client.cmd(request["minions"], function, args, timeout=request["timeout"], kwarg=kwargs, tgt_type="list")
        return salt.runner.RunnerClient(self.options).cmd(function, args, kwarg=kwargs, print_event=False)


class Server(socketserver.TCPServer):
    """One job after another."""

    allow_reuse_address = True


if __name__ == "__main__":
    Handler.options = salt.config.client_config("/etc/salt/master")
    with Server((sys.argv[1], int(sys.argv[2])), Handler) as server:
        server.serve_forever()
