"""The administrator's operations as salt-run carries them out: real master configuration, loader,
and exit code.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import salt.config
import yaml

from tests.unit.bus.conftest import gen_keys


@pytest.fixture
def run(config_dir: Path, tmp_path: Path) -> Any:
    """Return a function that calls salt-run with a controller of two backends, and returns exit
    code and answer.
    """
    for name in ("slow", "fast"):
        (tmp_path / name).mkdir(mode=0o700)
    driver = "saltstorage.drivers.file.FileDriver"
    storage = {
        "state_dir": str(tmp_path / "state"),
        "default_backend": "slow",
        "backends": {name: {"volume_driver": driver, "file_driver_path": str(tmp_path / name)} for name in ("slow", "fast")},
    }
    own = tmp_path / "config"
    own.mkdir()
    master = yaml.safe_load((config_dir / "master").read_text())
    (own / "master").write_text(yaml.safe_dump({**master, "pki_dir": str(tmp_path / "pki"), "storage": storage}))
    # Salt puts it below its root_dir.
    accepted = Path(salt.config.client_config(str(own / "master"))["pki_dir"]) / "minions"
    accepted.mkdir(parents=True)
    (accepted / "db2").write_text(gen_keys()[1])

    def call(*arguments: str) -> tuple[int, Any]:
        command = [str(Path(sys.executable).parent / "salt-run"), "-c", str(own), "--out=json", "--log-level=quiet", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        return done.returncode, json.loads(done.stdout)

    return call


@pytest.mark.root
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_adopt_give_move_and_release(run: Any, tmp_path: Path) -> None:
    (tmp_path / "slow" / "old.img").write_bytes(b"precious")
    code, listed = run("storage.manageable")
    assert (code, [found["reference"] for found in listed]) == (0, [{"source-name": "old.img"}])
    code, answer = run("storage.manage", "data", "owner=db1", "reference={source-name: old.img}")
    assert (code, answer["new"]) == (0, True)
    code, answer = run("storage.manage", "data", "owner=db1", "reference=other.img")
    assert (code, answer["code"]) == (1, "ALREADY_EXISTS")
    code, answer = run("storage.give", "data", "db1", "db22")
    assert (code, answer["code"]) == (1, "NOT_FOUND")
    assert run("storage.give", "data", "db1", "db22", "force=True")[0] == 0
    assert run("storage.give", "data", "db22", "db2")[0] == 0
    code, answer = run("storage.migrate", "data", "db2", "backend=fast")
    assert (code, answer["volume"]["backend"]) == (0, "fast")
    code, findings = run("storage.check", "kinds=[moved, orphan, gone]")
    assert (code, [(f["kind"], f["owner"], f["size_gib"]) for f in findings]) == (0, [("moved", "db2", 1)])
    assert run("storage.migrate_finish", "data", "db2")[0] == 0
    code, answer = run("storage.unmanage", "data", "owner=db2")
    assert (code, (tmp_path / "fast" / answer["array_name"]).read_bytes()[:8]) == (0, b"precious")
    orphan = answer["old"]["id"]
    code, told = run("storage.repair", f"remove={orphan}")
    assert (code, [(t["kind"], t["done"]) for t in told]) == (0, [("orphan", False)])
    code, told = run("storage.repair", f"remove={orphan}", "apply=True")
    assert (code, [t["done"] for t in told]) == (0, [True])
    assert [list((tmp_path / name).glob("volume-*")) for name in ("slow", "fast")] == [[], []]
