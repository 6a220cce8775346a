"""An array's SSH server, on which a driver types the commands of the array's own shell."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
from collections.abc import Callable
from typing import Any

import paramiko

#: A word, or a quoted one with its quotes: the simulators look at them.
_WORD = re.compile(r'"[^"]*"|\S+')


class SSHArray:
    """Answers commands over SSH on a port of the loopback interface, as long as the process lives:
    Cinder's pool of connections looks for its array even when it is dropped.

    :ivar commands: the commands so far.
    """

    LOGIN = "superuser"
    PASSWORD = "sim-passw0rd"

    def __init__(self, run: Callable[[list[str]], tuple[str, str]]) -> None:
        """Listen.

        :param run: takes the words of a command and returns its output and its error output; with
            the latter, the command has failed.
        """
        self._run = run
        # An array works on one change at a time too, and the simulators are not made for threads.
        self._turn = threading.Lock()
        self._key = paramiko.ECDSAKey.generate()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.commands: list[str] = []
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def execute(self, command: str) -> tuple[str, str]:
        """Return the output of a command and its error output."""
        with self._turn:
            self.commands.append(command)
            return self._run(_WORD.findall(command))

    def _accept(self) -> None:
        while True:
            connection, _address = self._listener.accept()
            transport = paramiko.Transport(_PromptSocket(fileno=connection.detach()))
            transport.add_server_key(self._key)
            with contextlib.suppress(paramiko.SSHException, EOFError):
                transport.start_server(server=_Server(self))


class _PromptSocket(socket.socket):
    """Neither waits for an acknowledgement nor keeps the client waiting for one: SSH sends several
    small packets for a command, and would stand still for 40 ms after each.
    """

    def recv(self, *args: Any) -> bytes:
        self.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        return super().recv(*args)


class _Server(paramiko.ServerInterface):
    def __init__(self, array: SSHArray) -> None:
        self._array = array

    def get_allowed_auths(self, username: str) -> str:
        return "password"

    def check_auth_password(self, username: str, password: str) -> int:
        right = (username, password) == (self._array.LOGIN, self._array.PASSWORD)
        return int(paramiko.AUTH_SUCCESSFUL if right else paramiko.AUTH_FAILED)

    def check_channel_request(self, kind: str, chanid: int) -> int:
        return int(paramiko.OPEN_SUCCEEDED if kind == "session" else paramiko.OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED)

    def check_channel_exec_request(self, channel: Any, command: bytes) -> bool:
        threading.Thread(target=self._answer, args=(channel, command.decode()), daemon=True).start()
        return True

    def _answer(self, channel: Any, command: str) -> None:
        out, error = self._array.execute(command)
        with contextlib.suppress(OSError, EOFError):
            channel.sendall(out.encode())
            channel.sendall_stderr(error.encode())
            channel.send_exit_status(1 if error else 0)
            # Not closed: the client may not have heard yet that its request is granted. It closes.
            channel.shutdown_write()
