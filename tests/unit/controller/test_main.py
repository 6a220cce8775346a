"""The program of the controller, as a service of the system."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from pathlib import Path

import yaml

from tests.conftest import CHECKOUT


def test_a_service_ends_although_systemd_reads_nothing(short_dir: Path) -> None:
    config = short_dir / "controller.yaml"
    config.write_text(yaml.safe_dump({"state_dir": str(short_dir / "state"), "backends": {}}))
    config.chmod(0o600)
    path = short_dir / "controller.sock"
    utils = str(CHECKOUT / "_utils")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as system, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        system.bind(str(short_dir / "notify"))
        other.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                other.sendto(b"full", str(short_dir / "notify"))
        process = subprocess.Popen(
            [sys.executable, "-m", "saltstorage.controller", "--config", config, "--socket", path],
            env={**os.environ, "PYTHONPATH": utils, "NOTIFY_SOCKET": str(short_dir / "notify"), "WATCHDOG_USEC": "2"},
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stderr is not None
        try:
            while not path.exists():
                assert process.poll() is None, process.stderr.read()
            process.terminate()
            assert process.wait(60) == 0
        finally:
            process.kill()
            process.communicate()


def test_records_reach_the_parent_although_salt_is_in_the_same_python() -> None:
    code = (
        "import logging, salt._logging; from saltstorage.controller import process; process.log_to_stderr();"
        "logging.getLogger().setLevel(logging.INFO); logging.getLogger('saltstorage').info('told')"
    )
    env = {**os.environ, "PYTHONPATH": str(CHECKOUT / "_utils")}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=60, check=True)
    assert done.stderr.splitlines()[-1] == "INFO told"
