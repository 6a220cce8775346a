"""Threads that load os-brick, such as those that attach at boot."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import CHECKOUT

LOAD = """
import json, sys, threading
{before}
from saltstorage.consumer.connectors import loading

loaded = []
thread = threading.Thread(target=lambda: loaded.append(loading.load(sys.argv[1])), daemon=True)
thread.start()
thread.join(60)
print(json.dumps({{"loaded": len(loaded), "alive": thread.is_alive(), "eventlet": "eventlet" in sys.modules}}))
"""


@pytest.mark.parametrize(
    ("before", "eventlet"), [("", False), ("sys.modules['cotyledon'] = None", True)], ids=["with-cotyledon", "without-cotyledon"]
)
def test_a_thread_that_has_loaded_it_ends(tmp_path: Path, before: str, eventlet: bool) -> None:
    """Without cotyledon, os-brick imports eventlet, which takes over the mark of the end of the
    importing thread: ``salt-storage-reattach``, which waits for that thread, would wait for ever.
    """
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-W", "ignore", "-c", LOAD.format(before=before), str(tmp_path / "lock")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=env, timeout=120)
    assert json.loads(done.stdout) == {"loaded": 1, "alive": False, "eventlet": eventlet}


@pytest.mark.parametrize("role", ["consumer", "controller"])
def test_storage_environments_have_it_without_eventlet(role: str) -> None:
    lock = (CHECKOUT / f"storage/requirements/{role}.txt").read_text()
    assert re.search(r"^cotyledon==", lock, re.MULTILINE)
