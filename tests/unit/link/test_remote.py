"""The controller in a process of its own: real processes, the real file driver, and their
ends.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import salt.config
import yaml

import saltstorage
from saltstorage.errors import (
    FailedPreconditionError,
    InvalidArgumentError,
    LostError,
    NotFoundError,
    PermissionDeniedError,
    StorageError,
    UnavailableError,
)
from saltstorage.ipc import frames
from saltstorage.link import asking, remote, settings
from saltstorage.link.remote import RemoteService

pytestmark = pytest.mark.slow

PACKAGE = str(Path(saltstorage.__file__).parent.parent)


@pytest.fixture
def storage(tmp_path: Path) -> dict[str, Any]:
    """The configuration of a controller with one backend."""
    (tmp_path / "volumes").mkdir()
    backend = {"volume_driver": "saltstorage.drivers.file.FileDriver", "file_driver_path": str(tmp_path / "volumes")}
    return {"state_dir": str(tmp_path / "state"), "lock_timeout": 1, "backends": {"local": backend}}


@pytest.fixture
def opts(tmp_path: Path, storage: dict[str, Any]) -> dict[str, Any]:
    return {"id": "master", "root_dir": str(tmp_path), "storage": storage}


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., RemoteService]]:
    """Makes services, and closes them."""
    monkeypatch.setattr(remote, "LOOK_INTERVAL", 0.1)
    made: list[RemoteService] = []

    def make(opts: dict[str, Any]) -> RemoteService:
        made.append(RemoteService(opts))
        made[-1].start()
        return made[-1]

    yield make
    for service in made:
        service.close()


def pid(service: RemoteService) -> int:
    """Return the process of a service's controller."""
    assert service._child is not None
    return service._child.process.pid


def begin(service: RemoteService, number: int) -> str:
    return service.journal.begin(f"{number:032x}", "db1", "digest", "create", time.time()).state


def create(service: RemoteService, name: str = "data") -> dict[str, Any]:
    return service.execute("create", {"name": name, "size": 1}, "db1")


def test_the_engine_has_operations_and_journal_over_the_socket(make: Callable[..., RemoteService], opts: dict[str, Any]) -> None:
    service = make(opts)
    assert begin(service, 1) == "new"
    assert begin(service, 1) == "running"
    assert create(service)["volume"]["name"] == "data"
    service.journal.finish(f"{1:032x}", b'{"sealed": 1}')
    known = service.journal.known(f"{1:032x}")
    assert known is not None
    assert (known.state, known.digest, known.reply) == ("done", "digest", b'{"sealed": 1}')
    assert service.journal.known("f" * 32) is None
    assert service.journal.prune(0.0, 0.0) == 0
    with pytest.raises(NotFoundError):
        service.execute("extend", {"name": "none", "size": 2}, "db1")
    with pytest.raises(InvalidArgumentError, match="no operation 'x'"):
        service.execute("x", {}, "db1")
    child = pid(service)
    service.close()
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)
    assert not os.path.exists(settings.socket_path(opts, service.section))


def test_a_request_during_a_crash_is_taken_up_again(
    make: Callable[..., RemoteService], opts: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    service = make(opts)
    assert begin(service, 1) == "new"
    former = pid(service)
    connected, stopped, sent = threading.Event(), threading.Event(), threading.Event()
    lost: list[BaseException] = []

    def ask() -> None:
        service.journal.known("0" * 32)  # connects
        connected.set()
        assert stopped.wait(60)
        try:
            create(service)
        except BaseException as exc:
            lost.append(exc)

    asker = threading.Thread(target=ask)
    receive = frames.receive

    def heard(sock: Any) -> Any:
        if threading.current_thread() is asker and stopped.is_set():
            sent.set()
        return receive(sock)

    monkeypatch.setattr(frames, "receive", heard)
    asker.start()
    assert connected.wait(60)
    # So that the request is on its way when the controller dies.
    os.kill(former, signal.SIGSTOP)
    stopped.set()
    assert sent.wait(60)
    os.kill(former, signal.SIGKILL)
    asker.join(60)
    assert [type(exc) for exc in lost] == [LostError], "a request whose outcome is not known was answered"
    # The minion repeats it: the life of the journal that began it has ended.
    assert begin(service, 1) == "new"
    assert create(service)["volume"]["state"] == "available"
    assert pid(service) != former


def test_a_controller_that_hangs_is_replaced(
    make: Callable[..., RemoteService], opts: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "HANG_TIMEOUT", 5.0)
    service = make(opts)
    former = pid(service)
    service.journal.known("0" * 32)  # connects
    os.kill(former, signal.SIGSTOP)
    with pytest.raises(LostError):
        create(service)
    assert create(service)["volume"]["state"] == "available"
    assert pid(service) != former


def restarted(service: RemoteService, former: int) -> None:
    """Wait until another controller serves."""
    until = time.monotonic() + 60
    while service._child is None or pid(service) == former or not service._ready.is_set():
        assert time.monotonic() < until, "the controller was not started again"
        time.sleep(0.05)


def test_a_configuration_that_was_wrong_is_read_again(make: Callable[..., RemoteService], opts: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "controller.yaml"
    good = opts["storage"]
    path.write_text(yaml.safe_dump(good))
    # A file that is named is used, whatever stands beside it.
    service = make({**opts, "storage": {"config": str(path), "workers": 4}})
    former = pid(service)

    def write(config: dict[str, Any]) -> None:
        path.with_suffix(".new").write_text(yaml.safe_dump(config))
        path.with_suffix(".new").replace(path)

    write({**good, "workers": 0})
    until = time.monotonic() + 60
    while service._fault is None:
        assert time.monotonic() < until, "nobody noticed the fault"
        time.sleep(0.05)
    assert "storage:workers" in service._fault.message
    write(good)
    restarted(service, former)
    assert create(service)["volume"]["state"] == "available"


def test_another_configuration_restarts_the_controller_alone(
    make: Callable[..., RemoteService], opts: dict[str, Any], tmp_path: Path
) -> None:
    path = tmp_path / "etc/salt-storage/controller.yaml"
    path.parent.mkdir(parents=True)
    storage = opts.pop("storage")
    path.write_text(yaml.safe_dump(storage))
    service = make(opts)
    former = pid(service)
    create(service)
    storage["policy"] = {"db1": {"max_volumes": 1}}
    path.with_suffix(".new").write_text(yaml.safe_dump(storage))
    path.with_suffix(".new").replace(path)
    restarted(service, former)
    with pytest.raises(StorageError, match="1 volume"):
        create(service, "more")


@pytest.mark.parametrize("change", [{"workers": 3}, {"request_max_age": 60}, {"socket": "other.sock"}])
def test_what_the_engine_takes_from_the_configuration_needs_a_new_start(
    make: Callable[..., RemoteService], opts: dict[str, Any], storage: dict[str, Any], tmp_path: Path, change: dict[str, Any]
) -> None:
    config = tmp_path / "controller.yaml"
    config.write_text(yaml.safe_dump(storage))
    service = make({**opts, "storage": {"config": str(config)}})
    outdated = threading.Event()
    service.when_outdated = outdated.set
    if "socket" in change:
        change = {"socket": str(tmp_path / change["socket"])}
    config.write_text(yaml.safe_dump({**storage, **change}))
    assert outdated.wait(60)


def test_what_is_wrong_with_the_configuration_is_said(make: Callable[..., RemoteService], opts: dict[str, Any], tmp_path: Path) -> None:
    opts["storage"]["workers"] = 0
    with pytest.raises(InvalidArgumentError, match="storage:workers must be a whole number"):
        make(opts)
    path = tmp_path / "etc/salt-storage/controller.yaml"
    path.parent.mkdir(parents=True)
    path.write_text("backends: {fast: {san_password: hunter2\n")
    del opts["storage"]
    with pytest.raises(FailedPreconditionError, match=r"controller\.yaml is no valid YAML, line 2") as caught:
        make(opts)
    assert "hunter2" not in str(caught.value)
    path.write_text("[]")
    with pytest.raises(InvalidArgumentError, match="must be a mapping"):
        make(opts)
    path.unlink()
    with pytest.raises(FailedPreconditionError, match="no storage controller is configured here"):
        make(opts)


@pytest.mark.root
def test_a_file_that_the_masters_user_cannot_read_is_told(opts: dict[str, Any], tmp_path: Path) -> None:

    path = tmp_path / "etc/salt-storage/controller.yaml"
    path.parent.mkdir(parents=True)
    path.write_text("backends: {}")
    path.chmod(0o600)
    del opts["storage"]
    os.seteuid(65534)
    try:
        with pytest.raises((PermissionDeniedError, FailedPreconditionError)) as caught:
            settings.section({**opts, "storage": {"config": str(path)}})
    finally:
        os.seteuid(0)
    assert "cannot be read" in str(caught.value)


def test_values_may_be_uris_of_secrets(opts: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "etc/salt-storage/controller.yaml"
    path.parent.mkdir(parents=True)
    path.write_text("backends: {fast: {san_password: 'sdb://osenv/ARRAY_PASSWORD'}}")
    monkeypatch.setenv("ARRAY_PASSWORD", "hunter2")
    found = settings.section({**salt.config.master_config(None), "root_dir": str(tmp_path), "osenv": {"driver": "env"}})
    assert found["backends"]["fast"]["san_password"] == "hunter2"


def test_salts_side_imports_nothing_heavy(opts: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "opts.yaml").write_text(yaml.safe_dump(opts))
    code = (
        "import sys, yaml\n"
        "from saltstorage.link.remote import RemoteService\n"
        "import saltstorage.bus.engine, saltstorage.runner.calls, saltstorage.flow.session\n"
        "service = RemoteService(yaml.safe_load(open(sys.argv[1])))\n"
        "service.start()\n"
        "print(service.execute('inventory', {}, 'db1')['default_backend'])\n"
        "service.close()\n"
        "print([name for name in ('cinder', 'cinderlib', 'sqlalchemy', 'tooz', 'os_brick', 'oslo_config') if name in sys.modules])\n"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "opts.yaml")],
        env={**os.environ, "PYTHONPATH": PACKAGE},
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.splitlines()[-2:] == ["local", "[]"]


@pytest.fixture
def system_service(tmp_path: Path, storage: dict[str, Any]) -> Iterator[Callable[..., Any]]:
    """Starts a controller as the system would; gives its process and the options that find it."""
    running: list[subprocess.Popen[str]] = []

    def start(**config: Any) -> tuple[subprocess.Popen[str], dict[str, Any]]:
        path, socket = tmp_path / "controller.yaml", tmp_path / "run/controller.sock"
        path.write_text(yaml.safe_dump({**storage, **config}))
        command = [sys.executable, "-m", "saltstorage.controller", "--config", str(path), "--socket", str(socket)]
        process = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": PACKAGE}, stderr=subprocess.PIPE, text=True)
        running.append(process)
        until = time.monotonic() + 60
        while not socket.exists() and process.poll() is None:
            assert time.monotonic() < until
            time.sleep(0.05)
        return process, {"id": "master", "root_dir": str(tmp_path), "storage": {"socket": str(socket), "config": str(path)}}

    yield start
    for process in running:
        process.terminate()
        process.communicate(timeout=30)


def test_a_service_of_the_system_is_used_and_outlives_the_engine(make: Callable[..., RemoteService], system_service: Any) -> None:
    process, found = system_service()
    service = make(found)
    assert service._child is None
    assert create(service)["volume"]["name"] == "data"
    service.close()
    with asking.controller(found) as connection:
        assert connection.hello["pid"] == process.pid
        [row] = asking.ask(connection, "admin", {"call": "volumes", "args": {}})
        assert row["name"] == "data"
    process.terminate()
    assert process.wait(30) == 0


def test_nobody_takes_the_place_of_another_users_service(make: Callable[..., RemoteService], system_service: Any) -> None:
    process, found = system_service()
    # Its configuration is closed to the master's user.
    found["storage"] |= {"controller_user": "root", "config": "/proc/1/mem"}
    service = make(found)
    assert create(service)["volume"]["state"] == "available"
    with asking.controller(found) as connection:
        assert connection.hello["pid"] == process.pid
    process.terminate()
    assert process.wait(30) == 0
    with pytest.raises(UnavailableError, match="service does not answer"), asking.controller(found):
        pass
    until = time.monotonic() + 60
    while service._fault is None:
        assert time.monotonic() < until
        time.sleep(0.05)
    assert service._child is None
    _, _ = system_service()
    assert create(service, "again")["volume"]["state"] == "available"


def test_a_service_says_what_keeps_it_from_serving(system_service: Any) -> None:
    process, found = system_service(database="sqlite:////proc/none/catalog.sqlite")
    until = time.monotonic() + 60
    with asking.controller(found) as connection:
        while True:
            with pytest.raises((UnavailableError, FailedPreconditionError)) as caught:
                asking.ask(connection, "execute", {"op": "inventory", "args": {}, "caller": "db1"})
            if "could not start" in str(caught.value):
                break
            assert time.monotonic() < until
            time.sleep(0.1)
    assert process.poll() is None
    process, _ = system_service(backends={"fast": {"san_password": "sdb://vault/x"}})
    assert process.wait(60) == 78
    assert process.stderr is not None
    assert "backends:fast:san_password is an sdb:// URI" in process.stderr.read()
