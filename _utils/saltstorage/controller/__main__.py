"""The program: ``python -m saltstorage.controller``.

Without arguments it is a child, and its standard input a connection to its parent. With a
configuration file it is a service of the system, for several users of one socket.
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import grp
import os
import pwd
import signal
import socket
import sys
import threading
from typing import Any

from ..errors import FailedPreconditionError, InvalidArgumentError, StorageError
from ..ipc import calls, child
from ..places import CONFIG
from .access import trust
from .process import Process, log_to_stderr

#: Exit code of a service that only the administrator can help; the unit does not start it again.
WRONG = 78
#: How long systemd may take to take a message, seconds; the watchdog tells the next one soon.
TELL_TIMEOUT = 1.0


def main() -> int:
    """Run until the parent or the system ends it; return the exit code."""
    parser = argparse.ArgumentParser(prog="saltstorage.controller", description=__doc__.splitlines()[0])
    parser.add_argument("--config", metavar="FILE", help=f"be a service with this configuration, such as {CONFIG}")
    parser.add_argument("--socket", metavar="PATH", help="where to listen, such as /run/salt-storage/controller.sock")
    parser.add_argument("--group", help="a group that may connect too")
    parser.add_argument("--user", action="append", default=[], help="a user that may ask, beside root and the own one: the master's")
    parser.add_argument("--id", default="", help="name of this machine to arrays; default its host name")
    options = parser.parse_args()
    if (options.config is None) != (options.socket is None):
        parser.error("--config and --socket go together")
    os.umask(0o077)
    faulthandler.register(signal.SIGUSR1, file=sys.stderr, all_threads=True)
    # The system ends a service that hangs by SIGABRT.
    faulthandler.enable(file=sys.stderr, all_threads=True)
    log_to_stderr()
    if options.config is None:
        return _be_child()
    try:
        return _be_service(options)
    except StorageError as error:
        sys.stderr.write(f"{error}\n")
        return 1 if error.retryable else WRONG


def _be_child() -> int:
    if os.isatty(0):
        sys.stderr.write("This program is started by Salt; salt-run storage.backends shows whether it serves. See --help for a service.\n")
        return 2
    process = Process("child")
    sock = child.parents()
    # The parent closes it or dies: nobody is left to answer to.
    calls.watch(sock, lambda: _leave(process))
    for number in (signal.SIGINT, signal.SIGTERM):
        # A signal to the whole group, such as Ctrl-C, is the parent's to act on.
        signal.signal(number, signal.SIG_IGN if number == signal.SIGINT else lambda *_: _leave_soon(process))
    calls.serve(sock, process.handle, process.hello())
    threading.Event().wait()  # the watch ends the process
    return 0


def _leave_soon(process: Process) -> None:
    threading.Thread(target=_leave, args=(process,), daemon=True).start()


def _leave(process: Process) -> None:
    try:
        process.end()
    finally:
        # Drivers may have threads that never end.
        os._exit(0)


def _be_service(options: argparse.Namespace) -> int:
    ending = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ending.set())
    settings = {"storage": _read(options.config), "root_dir": "/", "id": options.id or os.uname().nodename.partition(".")[0], "pillar": {}}
    try:
        group = grp.getgrnam(options.group).gr_gid if options.group else None
        users = frozenset(pwd.getpwnam(name).pw_uid for name in options.user)
    except KeyError as error:
        raise InvalidArgumentError(f"there is no such user or group on this machine: {error.args[0]}") from None
    process = Process("service")
    process.listen(options.socket, group=group, users=users)
    threading.Thread(target=process.serve_always, args=(settings,), name="storage-start", daemon=True).start()
    # Programs that drivers start shall not speak for this process.
    system, watchdog = os.environ.pop("NOTIFY_SOCKET", ""), os.environ.pop("WATCHDOG_USEC", "")
    _tell(system, "READY=1")
    while not ending.wait(int(watchdog) / 2e6 if watchdog else None):
        _tell(system, "WATCHDOG=1")
    _tell(system, "STOPPING=1")
    _leave(process)
    return 0


def _tell(system: str, state: str) -> None:
    """Tell systemd the state of this service.

    :param system: its socket, from ``$NOTIFY_SOCKET``; empty: systemd does not run this.
    """
    if system:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            # A systemd that does not read, since it is executed anew, must not hold up the end.
            sock.settimeout(TELL_TIMEOUT)
            sock.sendto(state.encode(), f"\0{system[1:]}" if system.startswith("@") else system)


def _read(path: str) -> dict[str, Any]:
    import yaml

    try:
        if part := trust.changeable(path):
            raise FailedPreconditionError(
                f"{part} can be changed by others than root and the controller's user, who could then do what the controller can; "
                "change its owner or mode"
            )
        with open(path, encoding="utf-8") as file:
            found = yaml.safe_load(file)
    except OSError as error:
        raise FailedPreconditionError(f"{path} cannot be read: {error.strerror}") from None
    except yaml.YAMLError as error:  # its text quotes lines, which may hold passwords
        mark = getattr(error, "problem_mark", None)
        raise FailedPreconditionError(f"{path} is no valid YAML{f', line {mark.line + 1}' if mark is not None else ''}") from None
    if not isinstance(found, dict):
        raise InvalidArgumentError(f"{path} must be a mapping")
    _refuse_sdb(found, path)
    return found


def _refuse_sdb(value: Any, where: str) -> None:
    if isinstance(value, dict):
        for key, item in value.items():
            _refuse_sdb(item, f"{where}:{key}")
    elif isinstance(value, str) and value.startswith("sdb://"):
        raise InvalidArgumentError(
            f"{where} is an sdb:// URI, which only Salt can resolve, and this controller runs without Salt; "
            "write the secret itself, or render the file with state.apply storage.controller from pillar that has it"
        )


if __name__ == "__main__":
    sys.exit(main())
