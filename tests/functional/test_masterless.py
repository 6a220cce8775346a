"""The administrator's operations without a master: real configuration and loader, and real
salt-call with its exit code.
"""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import salt.loader
import yaml

from saltstorage.errors import FailedPreconditionError

#: The work of salt-call after its start, again and again: its start takes longer than most calls.
SESSION = """
import json, os, sys
import salt.client, salt.config, salt.minion, salt.utils.args
from salt.exceptions import SaltException

answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)
opts = {**salt.config.minion_config(os.path.join(sys.argv[1], "minion")), "file_client": "local"}
functions = salt.client.Caller(mopts=opts).sminion.functions
for line in sys.stdin:
    name, *words = json.loads(line)
    try:
        args, kwargs = salt.minion.load_args_and_kwargs(functions[name], salt.utils.args.parse_input(words))
        answer = [0, functions[name](*args, **kwargs), ""]
    except SaltException as error:
        answer = [1, None, str(error)]
    print(json.dumps(answer), file=answers, flush=True)
"""


@pytest.fixture
def own(config_dir: Path, tmp_path: Path) -> Path:
    """Return the configuration folder of a minion with two backends."""
    for name in ("slow", "fast"):
        (tmp_path / name).mkdir(mode=0o700)
    driver = "saltstorage.drivers.file.FileDriver"
    storage = {
        "state_dir": str(tmp_path / "state"),
        "default_backend": "slow",
        "backends": {name: {"volume_driver": driver, "file_driver_path": str(tmp_path / name)} for name in ("slow", "fast")},
        "consumer": {key: str(tmp_path / key) for key in ("device_dir", "fstab", "lock_path")} | {"state_dir": str(tmp_path / "minion")},
    }
    own = tmp_path / "config"
    own.mkdir()
    minion = yaml.safe_load((config_dir / "minion").read_text())
    # As after `saltutil.sync_all` of a minion, which brings it no runners.
    (own / "minion").write_text(yaml.safe_dump({**minion, "storage": storage}))

    return own


@pytest.fixture
def salt_call(own: Path) -> Any:
    """Return a function that runs salt-call and returns exit code, answer and error output."""

    def run(*arguments: str) -> tuple[int, Any, str]:
        command = [str(Path(sys.executable).parent / "salt-call"), "-c", str(own), "--local", "--out=json", "--log-level=quiet", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        return done.returncode, json.loads(done.stdout)["local"] if done.stdout else None, done.stderr

    return run


@pytest.fixture
def call(own: Path, tmp_path: Path) -> Any:
    """Return a function that does the same in one process for the whole test."""
    with subprocess.Popen([sys.executable, "-c", SESSION, str(own)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None

        def run(*arguments: str) -> tuple[int, Any, str]:
            print(json.dumps(arguments), file=process.stdin, flush=True)
            code, answer, errors = json.loads(process.stdout.readline())
            return code, answer, errors

        yield run
        if (tmp_path / "device_dir" / "data").exists():
            # A test that failed may not leave a loop device.
            assert run("storage.disconnect", "data")[0] == 0
        process.stdin.close()


@pytest.mark.root
@pytest.mark.slow
def test_the_exit_code_tells(salt_call: Any) -> None:
    code, answer, errors = salt_call("storage.admin", "create", "data", "owner=min", "size=1")
    assert (code, answer["volume"]["name"], errors) == (0, "data", ""), answer
    code, answer, errors = salt_call("storage.admin", "volume", "nothing", "owner=min")
    assert (code != 0, answer) == (True, None)
    assert "NOT_FOUND: " in errors


@pytest.mark.root
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_administrators_operations(call: Any, tmp_path: Path) -> None:
    def admin(*arguments: str) -> Any:
        code, answer, errors = call("storage.admin", *arguments)
        assert code == 0, errors
        return answer

    def refused(*arguments: str) -> str:
        code, answer, errors = call("storage.admin", *arguments)
        assert (code != 0, answer) == (True, None), answer
        return str(errors)

    (tmp_path / "slow" / "old.img").write_bytes(b"precious")
    assert {found["name"] for found in admin("backends")} == {"slow", "fast"}
    assert [found["reference"] for found in admin("manageable")] == [{"source-name": "old.img"}]
    assert admin("manage", "data", "owner=min", "reference=old.img")["new"] is True
    assert [found["name"] for found in call("storage.volumes")[1]] == ["data"], "it is one of this minion's"
    assert "ALREADY_EXISTS: " in refused("manage", "data", "owner=min", "reference=other.img")
    assert "NOT_FOUND: " in refused("volume", "nothing", "owner=min")
    assert admin("volumes", "backend=fast") == []
    assert "'fats' is not configured" in refused("volumes", "backend=fats")
    assert admin("migrate", "data", "min", "backend=fast")["volume"]["backend"] == "fast"
    assert {found["kind"] for found in admin("check")} == {"moved", "unattached"}
    assert admin("migrate_finish", "data", "min")["removed"]
    assert admin("give", "data", "min", "min", "new_name=renamed")["volume"]["name"] == "renamed"
    assert [found["name"] for found in admin("volumes", "owner=m*", "state=available")] == ["renamed"]
    assert admin("snapshot_create", "cut", "owner=min", "volume=renamed")["snapshot"]["name"] == "cut"
    assert [found["name"] for found in admin("snapshots")] == ["cut"]
    assert admin("snapshot_delete", "cut", "owner=min")["old"]["name"] == "cut"
    # Deleted, retained, and taken over again with the answer's own command.
    kept = admin("delete", "renamed", "owner=min", "retain=True")["retained"]
    assert (tmp_path / "fast" / kept["array_name"]).read_bytes()[:8] == b"precious"
    words = shlex.split(kept["take_over"])
    assert words[:2] == ["salt-run", "storage.manage"]
    volume = admin("manage", *words[2:])["volume"]
    assert admin("unmanage", "renamed", "owner=min")["old"]["id"] == volume["id"]
    told = admin("repair", f"remove={volume['id']}", "apply=True")
    assert [found["done"] for found in told] == [True]
    assert list((tmp_path / "fast").glob("volume-*")) == []
    # Errors before anything is called.
    assert "INVALID_ARGUMENT: there is no operation 'nothing'; known: backend_stats, backends, bind, check, " in refused("nothing")
    assert "INVALID_ARGUMENT: manage: missing a required argument: 'owner'" in refused("manage", "data")


@pytest.mark.root
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_d10_d11_a_state_lets_go_of_a_volume_that_is_attached(call: Any, tmp_path: Path) -> None:
    def state(function: str, **given: Any) -> Any:
        code, answer, errors = call("state.single", f"storage_volume.{function}", "name=data", *(f"{k}={v}" for k, v in given.items()))
        assert (code, errors) == (0, ""), (answer, errors)
        [found] = answer.values()
        return found

    device = tmp_path / "device_dir" / "data"
    state("connected", size=1, retain=True)
    device.write_bytes(b"precious" * 64)
    assert state("absent", disconnect=True, test=True)["result"] is None
    assert device.exists()
    kept = state("absent", disconnect=True)["changes"]["retained"]["new"]
    assert not device.exists()
    assert (tmp_path / "slow" / kept["array_name"]).read_bytes()[:8] == b"precious"
    assert state("absent", disconnect=True)["changes"] == {}
    assert call("storage.admin", *shlex.split(kept["take_over"].removeprefix("salt-run storage.")))[0] == 0
    assert state("absent")["changes"].keys() == {"data"}
    assert list((tmp_path / "slow").glob("volume-*")) == []


@pytest.mark.root
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_m16_a_copy_waits_for_its_source_in_a_real_run(call: Any) -> None:
    """Row M16, with Salt's own order of states and results of the run."""

    def run(*names: str, test: bool = False) -> list[dict[str, Any]]:
        source = {"copy": [{"source": {"volume": "data"}}], "data": []}
        high = {
            name: {"storage_volume": ["present", {"name": name}, {"size": 1}, *source[name], {"order": number}]}
            for number, name in enumerate(names, 1)
        }
        code, answer, errors = call("state.high", json.dumps(high), f"test={test}")
        assert (code, errors) == (0, ""), (answer, errors)
        return sorted(answer.values(), key=lambda found: int(found["__run_num__"]))

    early, source = run("copy", "data")
    assert (early["result"], source["result"]) == (False, True), early
    assert "the source volume 'data' is made later in this run (state 'data')" in early["comment"]
    assert call("storage.admin", "delete", "data", "owner=min")[0] == 0
    assert [found["result"] for found in run("data", "copy", test=True)] == [None, None]
    done = run("data", "copy")
    assert [found["result"] for found in done] == [True, True], done
    assert done[1]["changes"]["copy"]["new"]["source"] == "volume data"
    done = run("copy", "data")
    assert [(found["result"], found["changes"]) for found in done] == [(True, {})] * 2, done


def test_every_function_of_the_runner_is_offered(loaded: dict[str, Any], minion_opts: dict[str, Any]) -> None:
    runner = {name.removeprefix("storage.") for name in loaded["runners"] if name.startswith("storage.")}
    with pytest.raises(Exception, match="there is no operation") as caught:
        loaded["modules"]["storage.admin"]("nothing")
    assert runner == set(str(caught.value).partition("known: ")[2].split(", "))


def test_a_minion_with_a_master_is_told_what_to_type_there(minion_opts: dict[str, Any]) -> None:
    opts = {**minion_opts, "file_client": "remote"}
    modules = salt.loader.minion_mods(opts, utils=salt.loader.utils(opts))
    with pytest.raises(FailedPreconditionError, match=r"the controller of min is its master; on that, use salt-run storage\.check$"):
        modules["storage.admin"]("check", kinds="orphan")
