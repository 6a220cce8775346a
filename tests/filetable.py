"""The table of files, sockets and locks in ``docs/security.rst``, compared with a host."""

from __future__ import annotations

import fnmatch
import grp
import os
import pwd
import re
import stat
from dataclasses import dataclass

from tests.conftest import CHECKOUT
from tests.servicehost import ServiceHost

PAGE = CHECKOUT / "docs/security.rst"
#: Folders of which each file is in the table.
WHOLE = ("/etc/salt-storage", "/run/salt-storage", "/var/lib/salt-storage")
_ROW = re.compile(r"^``(?P<path>/\S+)``  +(?P<owner>\S+)  +(?P<group>\S+)  +(?P<mode>[0-7]{4})(?:  |$)")


@dataclass(frozen=True)
class Row:
    """One row; ``owner`` and ``group`` are ``root``, ``controller`` or ``master``."""

    path: str
    owner: str
    group: str
    mode: int


def rows() -> list[Row]:
    """Return the rows of the page."""
    text = PAGE.read_text(encoding="utf-8").partition("\nFiles, sockets and locks\n")[2]
    found = [Row(one["path"], one["owner"], one["group"], int(one["mode"], 8)) for line in text.splitlines() if (one := _ROW.match(line))]
    assert len(found) > 10
    return found


def compare(host: ServiceHost, controller: str) -> set[str]:
    """Compare each file of the host with its row; return the paths of the rows that have one.

    :param controller: user of the controller.
    """
    names = {"root": "root", "controller": controller, "master": host.master}
    table, seen, wrong = rows(), set(), []
    for path in _files(host, table):
        row = next((one for one in table if fnmatch.fnmatchcase(path, one.path)), None)
        found = os.stat(_place(host, path), follow_symlinks=False)
        shown = (pwd.getpwuid(found.st_uid).pw_name, grp.getgrgid(found.st_gid).gr_name, oct(stat.S_IMODE(found.st_mode)))
        if row is None:
            wrong.append(f"{path} {shown} is not in the table")
            continue
        seen.add(row.path)
        # Each user here has a group of its own name.
        wanted = (names[row.owner], names[row.group], oct(row.mode))
        if shown != wanted:
            wrong.append(f"{path} is {shown}, not {wanted}")
    assert not wrong, "\n".join(wrong)
    return seen


def _place(host: ServiceHost, path: str) -> str:
    """Return where a path of the page is on this host."""
    return str(host.folder) + path.replace("/etc/systemd/system", "/units")


def _files(host: ServiceHost, table: list[Row]) -> list[str]:
    found = {row.path for row in table if os.path.lexists(_place(host, row.path))}
    for top in WHOLE:
        for folder, folders, files in os.walk(_place(host, top)):
            found.update(os.path.join(folder, name).removeprefix(str(host.folder)) for name in (*folders, *files))
    return sorted(found)
