"""The bridge between cinderlib and Cinder: the names that it relies on, and the process around it,
which stays as it was.

Code that changes a process once runs in a process of its own.
"""

from __future__ import annotations

import importlib.metadata
import inspect
import json
import logging
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from saltstorage.controller.cinder import logs
from tests.otheruser import NOBODY, python_for_all

pytestmark = pytest.mark.slow

UTILS = Path(__file__).parents[4] / "_utils"


def run(code: str, *args: object, python: str | Path = sys.executable, user: int | None = None) -> dict:
    """Run code in a fresh interpreter, as another user if told so; it prints one JSON document as
    its last line.
    """
    done = subprocess.run(
        [python, "-c", textwrap.dedent(code), *map(str, args)],
        # A Python for other users has the package, and the checkout may be closed to them.
        env={"PATH": "/usr/bin:/bin"} | ({"PYTHONPATH": str(UTILS)} if user is None else {}),
        capture_output=True,
        text=True,
        timeout=100,
        user=user,
        group=user,
        extra_groups=None if user is None else [],
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1]) | {"stderr": done.stderr}


def test_the_places_that_cinder_moved():
    """Fails when a new Cinder moves names that cinderlib needs; the bridge then has to
    be adapted.
    """
    import cinder.db.api
    import cinder.db.models

    for name in ("main_context_manager", "get_engine", "model_query", "volume_attach", "oslo_db_api", "or_", "resource_exists"):
        assert hasattr(cinder.db.api, name), f"cinder.db.api.{name} is gone"
    for name in ("volume_create", "volume_update", "volume_type_get", "qos_specs_get", "get_by_id", "volume_data_get_for_host"):
        assert callable(getattr(cinder.db.api, name, None)), f"cinder.db.api.{name} is gone"
    for name in ("BASE", "Volume", "Snapshot", "VolumeAttachment", "VolumeMetadata", "VolumeAdminMetadata", "VolumeType"):
        assert hasattr(cinder.db.models, name), f"cinder.db.models.{name} is gone"
    assert importlib.metadata.version("cinderlib") == "5.2.0"
    assert importlib.metadata.version("cinder").split(".")[0] == "29", "look at cinder/bridge.py and this test, then raise the number"


def test_the_parts_of_cinderlib_that_are_replaced():
    from saltstorage.controller.cinder import bridge

    backend = bridge.load()
    parent = backend.__mro__[1]
    for name, parameters in {
        "_set_logging": ["disable_logs"],
        "_set_priv_helper": ["root_helper"],
        "_set_cinder_config": ["host", "locks_path", "cinder_config_params"],
        "_get_backend_config": ["self", "driver_cfg"],
    }.items():
        assert list(inspect.signature(getattr(parent, name)).parameters) == parameters, f"cinderlib's {name} changed"


def test_a_thread_that_has_loaded_it_ends():
    """eventlet takes over the mark of the end of the thread that imports it: join() on that thread
    would never return.
    """
    code = """
        import json, threading
        from saltstorage.controller.cinder import bridge

        loaded = []
        thread = threading.Thread(target=lambda: loaded.append(bridge.load()), daemon=True)
        thread.start()
        thread.join(60)
        print(json.dumps({"loaded": len(loaded), "alive": thread.is_alive()}))
    """
    done = run(code)
    assert (done["loaded"], done["alive"]) == (1, False)


SETUP = """
    import json, logging, os, signal, sys, threading, warnings
    import saltstorage.errors  # imports Salt, which sets an exception hook
    root = logging.getLogger()
    handler = logging.NullHandler()
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    mine = logging.getLogger("salt.loaded.mine")
    mine.setLevel(logging.INFO)
    mine.addHandler(handler)

    def state():
        loggers = {name: logger for name, logger in logging.root.manager.loggerDict.items() if isinstance(logger, logging.Logger)}
        return {
            "loggers": {
                name: [logger.level, [id(h) for h in logger.handlers], [id(f) for f in logger.filters], logger.propagate, logger.disabled]
                for name, logger in [("root", root), *loggers.items()]
            },
            "class attribute": isinstance(logging.Logger.__dict__.get("disabled"), property),
            "excepthook": id(sys.excepthook),
            "warnings": repr(warnings.filters),
            "showwarning": id(warnings.showwarning),
            "signals": [str(signal.getsignal(number)) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)],
            "environment": dict(os.environ),
            "meta path": [repr(finder) for finder in sys.meta_path if "Faker" in repr(type(finder))],
            "cwd": os.getcwd(),
            "umask": os.umask(os.umask(0o22)) and 0,
        }

    before = state()
    from saltstorage.controller.cinder import bridge
    Backend = bridge.setup(f"sqlite:///{sys.argv[1]}/cinderlib.sqlite", sys.argv[1])
"""


def test_the_process_stays_as_it_was(tmp_path):
    """Loggers, levels, handlers, warnings, signals, exception hook, environment and imports."""
    result = run(
        SETUP
        + """
    after = state()
    known = set(before["loggers"])
    after["loggers"] = {name: value for name, value in after["loggers"].items() if name in known}
    import threading, time, jsonschema, eventlet.patcher
    print(json.dumps({
        "changed": {key: [before[key], after[key]] for key in before if before[key] != after[key]},
        "jsonschema": hasattr(jsonschema, "Draft7Validator"),
        "patched": [name for name in ("os", "thread", "socket", "time", "select") if eventlet.patcher.is_monkey_patched(name)],
        "thread": threading.Thread.__module__,
        "levels": {name: logging.getLogger(name).getEffectiveLevel() for name in ("cinder.volume.driver", "cinderlib", "oslo_db")},
    }))
    """,
        tmp_path,
    )
    assert result["changed"] == {}
    assert result["jsonschema"], "cinderlib's stand-in is visible to others"
    assert result["patched"] == []
    assert set(result["levels"].values()) == {logging.WARNING}
    assert result["stderr"] == "", "warnings or log lines"


def test_many_threads_set_it_up_once(tmp_path):
    result = run(
        SETUP
        + """
    found, errors = set(), []
    def again():
        try:
            found.add(bridge.setup(f"sqlite:///{sys.argv[1]}/cinderlib.sqlite", sys.argv[1]))
        except Exception as error:
            errors.append(repr(error))
    threads = [threading.Thread(target=again) for _ in range(8)]
    [thread.start() for thread in threads], [thread.join() for thread in threads]
    try:
        bridge.setup("sqlite:////elsewhere.sqlite", sys.argv[1])
        other = ""
    except Exception as error:
        other = type(error).__name__
    print(json.dumps({"same": found == {Backend}, "errors": errors, "other": other}))
    """,
        tmp_path,
    )
    assert (result["same"], result["errors"], result["other"]) == (True, [], "FailedPreconditionError")


def test_two_processes_set_up_one_database(tmp_path):
    """The runner and the engine may start at the same time on a new database."""
    code = textwrap.dedent(SETUP + "    print('{}')")
    command = [sys.executable, "-c", code, str(tmp_path)]
    processes = [
        subprocess.Popen(command, env={"PYTHONPATH": str(UTILS), "PATH": "/usr/bin:/bin"}, stderr=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    for process in processes:
        _out, err = process.communicate(timeout=100)
        assert process.returncode == 0, err


def test_the_metadata_file_is_private(tmp_path):
    run(SETUP + "    print('{}')", tmp_path / "state")
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "state" / "cinderlib.sqlite").stat().st_mode & 0o777 == 0o600


def test_tls_warnings_stay_on(tmp_path):
    result = run(
        SETUP
        + """
    import urllib3
    with warnings.catch_warnings(record=True) as caught:
        warnings.warn("x", urllib3.exceptions.InsecureRequestWarning)
    print(json.dumps({"caught": len(caught)}))
    """,
        tmp_path,
    )
    assert result["caught"] == 1


@pytest.fixture
def record_of():
    """Return a function that logs to a library's logger and returns the text as a handler writes
    it.
    """
    lines: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(self.format(record))

    logger = logging.getLogger("cinder.volume.drivers.test_masking")
    logger.propagate = False
    logs.tame()
    handler = Keep()
    logger.addHandler(handler)
    yield lambda *args, **kwargs: (logger.warning(*args, **kwargs), lines[-1])[1]
    logger.removeHandler(handler)


def test_secrets_are_masked_in_log_records(record_of):
    from oslo_concurrency import processutils

    logs.add_secret("tr0ub4dor&3-known")
    assert "tr0ub4dor" not in record_of("login with %s failed", "tr0ub4dor&3-known")
    assert "hunter22" not in record_of("connection %s", {"auth_method": "CHAP", "auth_password": "hunter22"})
    failed = processutils.ProcessExecutionError(
        cmd="cinder-rtstool create /dev/x iqn user s3cretCHAPpw", stderr="s3cretCHAPpw", exit_code=1
    )
    assert "s3cretCHAPpw" not in record_of("export failed: %s", failed)
    try:
        raise failed
    except processutils.ProcessExecutionError:
        text = record_of("export failed", exc_info=True)
    assert "s3cretCHAPpw" not in text
    assert "cinder-rtstool" in text


def test_a_forked_child_has_connections_of_its_own(tmp_path):
    """Salt forks: a child must not use the database connections of its parent."""
    result = run(
        SETUP
        + """
    from cinder.db import api, models
    import sqlalchemy
    def query():
        with api.get_engine().connect() as connection:
            return connection.execute(sqlalchemy.select(sqlalchemy.func.count()).select_from(models.Volume)).scalar()
    query()
    child = os.fork()
    if child == 0:
        os._exit(0 if query() == 0 else 1)
    status = os.waitpid(child, 0)[1]
    print(json.dumps({"status": status, "parent": query()}))
    """,
        tmp_path,
    )
    assert (result["status"], result["parent"]) == (0, 0)


@pytest.mark.root
def test_a_controller_that_is_not_root_says_so_and_calls_no_sudo(short_dir):
    """oslo's own default is to run every command by sudo."""
    (short_dir / "bin").mkdir()
    for program in ("sudo", "privsep-helper"):
        (short_dir / "bin" / program).write_text(f"#!/bin/sh\necho $0 $* >>{short_dir}/called\n")
        (short_dir / "bin" / program).chmod(0o755)
    (short_dir / "state").mkdir()
    for path in (short_dir, short_dir / "state"):
        os.chown(path, NOBODY, NOBODY)
    with python_for_all(short_dir / "python", UTILS / "saltstorage") as python:
        result = run(
            """
            import json, os, sys
            os.environ["PATH"] = f"{sys.argv[1]}/bin:/usr/sbin:/usr/bin:/sbin:/bin"
            from saltstorage.controller.cinder import bridge
            from saltstorage.controller.cinder.provider import CinderlibProvider
            from saltstorage.errors import StorageError
            from saltstorage.providers import BackendConfig
            bridge.setup(f"sqlite:///{sys.argv[1]}/state/cinderlib.sqlite", f"{sys.argv[1]}/state")
            from cinder import utils
            from os_brick.initiator.linuxscsi import LinuxSCSI
            from os_brick.privileged import rootwrap
            from saltstorage.controller.cinder.errors import map_errors

            def lvm():
                options = {"volume_driver": "cinder.volume.drivers.lvm.LVMVolumeDriver", "volume_group": "none"}
                CinderlibProvider(BackendConfig(
                    name="lvm", options=options, state_dir=f"{sys.argv[1]}/state/backends/lvm",
                    database=f"sqlite:///{sys.argv[1]}/state/cinderlib.sqlite",
                )).load()

            told = []
            for call in (
                lambda: utils.execute("true", run_as_root=True),
                lambda: rootwrap.execute_root("true"),
                lambda: LinuxSCSI("")._execute("true", run_as_root=True, root_helper="sudo"),
                lvm,
            ):
                try:
                    with map_errors("try"):
                        call()
                    told.append("it ran")
                except StorageError as error:
                    told.append(str(error))
            print(json.dumps({"told": told}))
            """,
            short_dir,
            python=python,
            user=NOBODY,
        )
    assert len(result["told"]) == 4
    for text in result["told"]:
        assert text.startswith("FAILED_PRECONDITION"), text
        assert "run the controller as a service that is root" in text
    assert not (short_dir / "called").exists()
