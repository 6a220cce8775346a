"""A child process that serves its parent over a socket pair, and ends with it."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..errors import LostError
from . import calls

log = logging.getLogger(__name__)

#: How long a child may take to end by itself, seconds, before it is killed.
STOP_TIMEOUT = 5.0


class Child:
    """A running child.

    Its end of the pair is its standard input. It ends when the parent closes the pair or dies.
    Each line of its output goes to ``tell``.

    :param command: program and arguments; anyone can read them.
    :param environ: its whole environment.
    :param tell: takes a line of its standard output and error.
    :param name: its name in messages.
    :param timeout: how long it may take to start, seconds.
    :ivar connection: the way to ask it something.
    :raises LostError: it does not start, or ends at once.
    """

    def __init__(
        self,
        command: Sequence[str],
        environ: Mapping[str, str],
        *,
        tell: Callable[[str], None],
        name: str,
        timeout: float = calls.HELLO_TIMEOUT,
    ) -> None:
        self.name = name
        self._tell = tell
        self._last = ""
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                self.process: subprocess.Popen[bytes] = subprocess.Popen(
                    list(command), stdin=theirs.fileno(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=dict(environ), cwd="/"
                )
            except OSError as exc:
                ours.close()
                raise LostError(f"{name} cannot be started: {command[0]}: {exc.strerror}") from None
        self._reader = threading.Thread(target=self._read, name="storage-child-output", daemon=True)
        self._reader.start()
        try:
            self.connection = calls.Connection(ours, timeout=timeout)
        except BaseException as exc:
            self._end(0.0)
            if isinstance(exc, LostError):
                raise LostError(f"{name} did not start{f': {self._last}' if self._last else ''}") from None
            raise

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self.process.poll() is None

    def stop(self, timeout: float = STOP_TIMEOUT) -> None:
        """Let the child end, and kill it when it does not within ``timeout`` seconds."""
        self.connection.close()
        self._end(timeout)

    def _end(self, timeout: float) -> None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout)
        if self.alive:
            self.process.kill()
            self.process.wait()
        self._reader.join(1.0)

    def _read(self) -> None:
        stream: Any = self.process.stdout
        with stream:
            for line in stream:
                text = line.decode("utf-8", "replace").rstrip()
                if text:
                    self._last = text
                    self._tell(text)


def parents() -> socket.socket:
    """Return this child's end of the pair; its standard input is empty from then on."""
    sock = socket.socket(fileno=os.dup(0))
    empty = os.open(os.devnull, os.O_RDONLY)
    os.dup2(empty, 0)
    os.close(empty)
    return sock
