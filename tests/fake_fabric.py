"""A Fibre Channel fabric of Brocade's kind, with state: a switch that answers over SSH as far as
Cinder's zone driver asks. There is no switch here; the driver, its SSH client and all that they
send are real.
"""

from __future__ import annotations

import contextlib
import re
import socket
import threading
from collections.abc import Callable, Iterator

import paramiko

USER, PASSWORD = "zoning", "s3cret-fabric"
_WORDS = re.compile(r'"([^"]*)"|([^\s",]+)')


class Fabric:
    """One switch.

    :param ports: names of the ports that are logged in, of hosts and arrays: ``10:00:…``.
    :ivar zones: the zones in force, by name, each with its members.
    :ivar broken: an answer of the switch to the next change, which it does not do then.
    :ivar port: where it listens, on 127.0.0.1.
    """

    def __init__(self, ports: list[str]) -> None:
        self.ports = ports
        self.zones: dict[str, set[str]] = {}
        self.config = ""
        self.broken = ""
        self._defined: dict[str, set[str]] = {}
        self._configs: dict[str, set[str]] = {}
        self._lock = threading.Lock()
        self._key = paramiko.RSAKey.generate(2048)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._transports: list[paramiko.Transport] = []
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def options(self) -> dict[str, object]:
        """The options of this fabric in ``storage:zoning:fabrics``."""
        login = {"fc_fabric_address": "127.0.0.1", "fc_fabric_port": self.port, "fc_fabric_user": USER, "fc_fabric_password": PASSWORD}
        return {**login, "fc_southbound_protocol": "SSH"}

    def close(self) -> None:
        """Switch off."""
        self._listener.close()
        for transport in self._transports:
            transport.close()

    def answer(self, command: str) -> str:
        """Carry out a command line and return what the switch prints."""
        with self._lock:
            if self.broken and command.startswith(("zone", "cfg")) and "show" not in command:
                said, self.broken = self.broken, ""
                return said
            return "".join(self._do(part.strip()) for part in ([command] if '"' in command else command.split(";")))

    def _do(self, command: str) -> str:
        word, *args = [quoted or plain for quoted, plain in _WORDS.findall(command)]
        if word == "nsshow":
            return "".join(f" N    0101{number:02d};      2,3;{port};{port};\n" for number, port in enumerate(self.ports))
        if word == "cfgactvshow":
            members = {name: "".join(f"\t\t{one}\n" for one in sorted(of)) for name, of in self.zones.items()}
            zones = "".join(f" zone:\t{name}\t\n{lines}" for name, lines in members.items())
            if not self.config:
                return "Effective configuration:\n no configuration in effect\n"
            return f"Effective configuration:\n cfg:\t{self.config}\t\n{zones}"
        if word == "cfgtransshow":
            return "There is no outstanding zoning transaction\n"
        return self._change(word, args)

    def _change(self, word: str, args: list[str]) -> str:
        name, listed = args[0] if args else "", set(args[1].split(";")) if len(args) > 1 else set()
        changes: dict[str, Callable[[], object]] = {
            "zonecreate": lambda: self._defined.__setitem__(name, listed),
            "zoneadd": lambda: self._defined[name].update(listed),
            "zoneremove": lambda: self._defined[name].difference_update(listed),
            "zonedelete": lambda: self._defined.pop(name),
            "cfgcreate": lambda: self._configs.__setitem__(name, listed),
            "cfgadd": lambda: self._configs[name].update(listed),
            "cfgremove": lambda: self._configs[name].difference_update(listed),
            "cfgdelete": lambda: self._configs.pop(name),
            "cfgenable": lambda: self._enable(name),
            "cfgdisable": lambda: self._enable(""),
            "cfgsave": lambda: None,
            "nscamshow": lambda: None,
        }
        if word not in changes:
            return f"rbash: {word}: command not found\n"
        try:
            changes[word]()
        except KeyError as missing:
            return f"error: {missing} not found\n"
        return ""

    def _enable(self, name: str) -> None:
        self.zones = {zone: set(self._defined[zone]) for zone in self._configs[name]} if name else {}
        self.config = name

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:  # closed
                return
            transport = paramiko.Transport(sock)
            transport.add_server_key(self._key)
            self._transports.append(transport)
            transport.start_server(event=threading.Event(), server=_Login(self))


class _Login(paramiko.ServerInterface):
    """One connection to a switch."""

    def __init__(self, fabric: Fabric) -> None:
        self._fabric = fabric

    def check_auth_password(self, username: str, password: str) -> int:
        return paramiko.AUTH_SUCCESSFUL if (username, password) == (USER, PASSWORD) else paramiko.AUTH_FAILED

    def check_channel_request(self, kind: str, chanid: int) -> int:
        return paramiko.OPEN_SUCCEEDED

    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        threading.Thread(target=self._run, args=(channel, command.decode()), daemon=True).start()
        return True

    def _run(self, channel: paramiko.Channel, command: str) -> None:
        # Answered after the request for this command is: a channel must not end before.
        with contextlib.suppress(EOFError, OSError):
            channel.get_transport().global_request("wait@example.org", wait=True)
        if command.startswith(("cfgenable", "cfgdisable", "cfgsave")):
            # It asks whether that is meant.
            channel.recv(10)
        said = self._fabric.answer(command)
        # A client that knows enough hangs up.
        with contextlib.suppress(EOFError, OSError):
            channel.sendall(said.encode())
            channel.send_exit_status(0)
            channel.close()


@contextlib.contextmanager
def fabrics(*ports: list[str]) -> Iterator[list[Fabric]]:
    """Yield a fabric for each list of ports."""
    made = [Fabric(each) for each in ports]
    try:
        yield made
    finally:
        for fabric in made:
            fabric.close()
