"""A PostgreSQL of one's own, on a Unix socket in a folder of its own, which neither knows nor
disturbs another one of the machine.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import subprocess
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg

#: Seconds. A server that ends is noticed at once.
START_TIMEOUT = 300
#: Debian keeps each version's programs apart.
_DIRECTORIES = [*sorted(map(str, Path("/usr/lib/postgresql").glob("*/bin")), reverse=True)]
SEARCH = os.pathsep.join([*_DIRECTORIES, os.environ.get("PATH", os.defpath)])


def _user() -> pwd.struct_passwd:
    """Return the user to run it as: this one; for root, which PostgreSQL refuses, its package's
    user.
    """
    return pwd.getpwuid(os.geteuid()) if os.geteuid() else pwd.getpwnam("postgres")


class Postgres:
    """The server.

    :param folder: an empty folder with a short path, for the socket and the data.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.log = folder / "log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        entry = _user()
        os.chown(self.folder, entry.pw_uid, entry.pw_gid)
        as_user: dict[str, Any] = {"stdin": subprocess.DEVNULL, "cwd": self.folder}
        if os.geteuid() == 0:
            as_user.update(user=entry.pw_uid, group=entry.pw_gid, extra_groups=[])
        with self.log.open("ab") as log:
            # A locale that orders by a language: the catalog must not depend on how a cluster was
            # made.
            made = [_find("initdb"), "-D", self.data, "-U", "test", "-A", "trust", "-E", "UTF8", "--locale-provider=icu", "--icu-locale=en"]
            subprocess.run([*made, "--locale=C.UTF-8", "--no-sync"], stdout=log, stderr=log, check=True, **as_user)
            options = ["-c", "listen_addresses=", "-c", "fsync=off", "-k", self.folder]
            self.process = subprocess.Popen([_find("postgres"), "-D", self.data, *options], stdout=log, stderr=log, **as_user)
        deadline = time.monotonic() + START_TIMEOUT
        while subprocess.run([_find("pg_isready"), "-q", "-h", self.folder], check=False).returncode:
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.02)

    def stop(self) -> None:
        """End it and cut off its clients."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def database(self) -> str:
        """Make an empty database, and return its SQLAlchemy URL."""
        name = f"t{uuid.uuid4().hex}"
        with psycopg.connect(f"host={self.folder} user=test dbname=postgres", autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())
        return f"postgresql+psycopg://test@/{name}?host={self.folder}"


def _find(program: str) -> str:
    found = shutil.which(program, path=SEARCH)
    assert found is not None, program
    return found


@contextlib.contextmanager
def running(folder: Path) -> Iterator[Postgres]:
    """Run a server while the context lasts."""
    server = Postgres(folder)
    try:
        server.start()
        yield server
    finally:
        server.stop()
