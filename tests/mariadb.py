"""A MariaDB of one's own, on a Unix socket in a folder of its own, which neither knows nor
disturbs another one of the machine.
"""

from __future__ import annotations

import contextlib
import getpass
import subprocess
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pymysql

from saltstorage.consumer.host import commands

#: Seconds. A server that ends is noticed at once.
START_TIMEOUT = 300
PROGRAMS = ("mariadbd", "mariadb-install-db", "my_print_defaults")


class MariaDB:
    """The server.

    :param folder: an empty folder with a short path, for the socket and the data.
    """

    def __init__(self, folder: Path) -> None:
        self.data = folder / "data"
        self.socket = folder / "socket"
        self.log = folder / "log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        common = ["--no-defaults", f"--datadir={self.data}", f"--user={getpass.getuser()}"]
        with self.log.open("ab") as log:
            made = [commands.find("mariadb-install-db"), *common, "--auth-root-authentication-method=normal", "--skip-test-db"]
            subprocess.run(made, stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=True)
            # Nothing has to outlive a crash of the machine.
            options = ["--skip-networking", f"--socket={self.socket}", "--innodb-flush-log-at-trx-commit=0", "--innodb-flush-method=nosync"]
            options += ["--innodb-file-per-table=0"]
            command = [commands.find("mariadbd"), *common, *options]
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        deadline = time.monotonic() + START_TIMEOUT
        while not self._answers():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.02)

    def _answers(self) -> bool:
        with contextlib.suppress(pymysql.err.OperationalError):
            self._connect().close()
            return True
        return False

    def _connect(self) -> pymysql.Connection:
        return pymysql.connect(unix_socket=str(self.socket), user="root")

    def stop(self) -> None:
        """End it and cut off its clients."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def database(self) -> str:
        """Make an empty database, and return its SQLAlchemy URL."""
        name = f"t{uuid.uuid4().hex}"
        with contextlib.closing(self._connect()) as connection:
            connection.cursor().execute(f"CREATE DATABASE {name}")
        return f"mysql+pymysql://root@localhost/{name}?unix_socket={self.socket}"


@contextlib.contextmanager
def running(folder: Path) -> Iterator[MariaDB]:
    """Run a server while the context lasts."""
    server = MariaDB(folder)
    try:
        server.start()
        yield server
    finally:
        server.stop()
