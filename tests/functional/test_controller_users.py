"""The controller as each user that it can have, one after another, over one catalog: installed by
the SLS, and run by the unit's own command line.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from saltstorage.errors import PermissionDeniedError
from saltstorage.link import asking
from tests.filetable import compare, rows
from tests.otheruser import NOBODY
from tests.servicehost import ServiceHost, account, remove_account, service_host

pytestmark = [pytest.mark.root, pytest.mark.slow]

#: Asks the controller as Salt's side does, in a process of its own user.
ASK = """
import json, sys
from saltstorage.link import asking
with asking.controller(json.loads(sys.argv[1])) as connection:
    print(json.dumps(asking.ask(connection, "admin", json.loads(sys.argv[2]))))
"""
#: Is Salt's side of the controller, as the engine has it, until its standard input ends.
ENGINE = """
import json, sys
from saltstorage.link.remote import RemoteService
service = RemoteService(json.loads(sys.argv[1]))
service.start()
print("ready", flush=True)
sys.stdin.read()
service.close()
"""


@pytest.fixture
def host() -> Iterator[ServiceHost]:
    with account(f"st-m{os.getpid()}") as master, service_host(master) as found:
        yield found


@pytest.fixture
def own(host: ServiceHost) -> Iterator[str]:
    """A user that the SLS makes."""
    name = f"st-c{os.getpid()}"
    yield name
    if host.process is not None:
        host.kill()
    remove_account(name)


def options(host: ServiceHost) -> str:
    """Return the options of the master that the SLS has configured."""
    opts = {"id": "alpha_master", "user": host.master, "root_dir": str(host.folder), **yaml.safe_load(host.master_config.read_text())}
    opts["storage"]["environment"] = str(host.folder / "env")
    return json.dumps(opts)


@contextmanager
def engine(host: ServiceHost) -> Iterator[None]:
    """Be the engine, as the master's user."""
    command = [host.python, "-c", ENGINE, options(host)]
    user: dict[str, Any] = {"user": host.master, "group": host.master, "extra_groups": [], "umask": 0o22}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd="/", **user) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "ready\n"
            yield
        finally:
            process.stdin.close()


def ask(host: ServiceHost, user: str | int, call: str, **args: Any) -> subprocess.CompletedProcess[str]:
    """Have the runner's call made as a user."""
    command = [host.python, "-c", ASK, options(host), json.dumps({"call": call, "args": args})]
    return subprocess.run(command, user=user, group=user, extra_groups=[], capture_output=True, text=True, cwd="/", check=False)


def create(host: ServiceHost, name: str) -> list[str]:
    """Create a volume as the master's user, and return the names of all."""
    made = ask(host, host.master, "operate", op="create", args={"name": name, "size": 1, "owner": "alpha"})
    assert made.returncode == 0, made.stderr
    return sorted(row["name"] for row in json.loads(ask(host, host.master, "volumes").stdout))


def readable(path: Path, user: str) -> bool:
    return subprocess.run(["cat", path], user=user, group=user, extra_groups=[], capture_output=True, check=False).returncode == 0


def test_one_catalog_for_each_user_in_turn(host: ServiceHost, own: str) -> None:
    """Its files change hands with each choice, and none is left that the table of the documentation
    does not have.
    """
    seen: set[str] = set()
    names: list[str] = []
    for number, user in enumerate([own, "root", "", own]):
        host.apply(user)
        assert not any(state["changes"] for state in host.apply(user).values())
        owner = user or host.master
        host.give_volumes(owner)
        if user:
            host.start()
            assert os.stat(f"/proc/{host.process.pid}").st_uid == os.stat(host.state).st_uid  # type: ignore[union-attr]
        names.append(f"v{number}")
        with engine(host):
            assert create(host, names[-1]) == names
            seen |= compare(host, owner)
            assert ask(host, NOBODY, "volumes").returncode != 0
        assert readable(host.config, host.master) == (owner == host.master)
        if user:
            host.stop()
        assert (host.folder / "units/salt-storage-controller.service").exists() == bool(user)
    assert seen == {row.path for row in rows()}


def test_a_configuration_that_others_can_change_is_refused(host: ServiceHost) -> None:
    """A controller that is root would do what that file says."""
    host.apply("root")
    os.chown(host.config.parent, NOBODY, NOBODY)
    done = subprocess.run(host.unit()["ExecStart"].split(), env={}, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 78
    assert "can be changed by others than root" in done.stderr


def test_nobody_else_may_listen_in_the_services_place(host: ServiceHost, own: str) -> None:
    host.apply(own)
    host.give_volumes(own)
    host.start()
    opts = {"id": "m", "storage": {"socket": str(host.socket), "controller_user": "nobody"}}
    with pytest.raises(PermissionDeniedError, match="user that may listen there"), asking.controller(opts):
        pass
    host.stop()
