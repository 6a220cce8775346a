"""``make lab-shell``: the running lab, with a prompt on each host, for a person. Run by pytest
for the lab's fixtures.
"""

from __future__ import annotations

import os
import pty
import shutil
import sys
import termios
import tty

from .agent import relay, resize
from .controller import Controller
from .guest import BIN, Guest
from .lab import Lab

WELCOME = """
A SAN on one machine: the controller exports files over iSCSI, and the guests attach them.

  controller       salt-master with the storage engine; try: salt-run storage.backends
                   salt '*' state.single storage_volume.mounted data size=1GiB mount=/srv/data fstype=xfs
  {guests}         salt-minion; try: lsblk, iscsiadm -m session, ls -l /dev/storage

Type a host's name for a prompt on it, `exit` there to come back, and nothing to end the lab. Nothing stays behind.
"""


def test_shell(lab: Lab) -> None:
    print(WELCOME.format(guests=", ".join(lab.guests)))
    while name := _ask(f"host [controller, {', '.join(lab.guests)}]: "):
        if name == "controller":
            _controller(lab.controller)
        elif name in lab.guests:
            _guest(lab.guests[name])
        else:
            print(f"There is no host {name}.")


def _ask(prompt: str) -> str:
    try:
        return input(prompt).strip()
    except EOFError:
        return ""


def _controller(controller: Controller) -> None:
    environment = {
        **os.environ,
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "SALT_CONFIG_DIR": str(controller.config_dir),
        "PS1": r"controller:\w# ",
    }
    environment.pop("PYTHONPATH", None)
    # A terminal of its own: bash would take this one and could not give it back, since the
    # process group that it took it from is not of this namespace.
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(controller.folder)
        os.execve("/bin/bash", ["bash", "--norc"], environment)  # noqa: S606
    resize(terminal, *_size())
    _relay(terminal)
    os.close(terminal)
    os.waitpid(pid, 0)


def _guest(guest: Guest) -> None:
    rows, columns = _size()
    with guest.shell({"term": os.environ.get("TERM", "linux"), "rows": rows, "columns": columns}) as connection:
        _relay(connection.fileno())


def _size() -> tuple[int, int]:
    size = shutil.get_terminal_size()
    return size.lines, size.columns


def _relay(far: int) -> None:
    stdin, stdout = sys.stdin.fileno(), sys.stdout.fileno()
    if not os.isatty(stdin):
        relay(stdin, stdout, far)
        return
    before = termios.tcgetattr(stdin)
    try:
        tty.setraw(stdin)
        relay(stdin, stdout, far)
    finally:
        termios.tcsetattr(stdin, termios.TCSADRAIN, before)
