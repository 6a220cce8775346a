"""The runner as Salt loads it: functions fail in one way, and tables fit their headings."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import salt.config
import salt.loader
import salt.output
import yaml

from saltstorage.errors import FailedPreconditionError, InvalidArgumentError
from saltstorage.runner import calls


@pytest.fixture(autouse=True)
def _called_from_python(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test before has left the tag of Salt's ``RunnerClient``."""
    monkeypatch.setattr(calls, "__tag__", "")


@pytest.fixture
def master_config(config_dir: Path, tmp_path: Path, metadata_dir: Path) -> Path:
    """Return the configuration folder of a master whose controller has one backend."""
    driver = {"volume_driver": "saltstorage.drivers.file.FileDriver", "file_driver_path": str(tmp_path / "volumes")}
    metadata = f"sqlite:///{metadata_dir}/cinderlib.sqlite"
    storage = {"state_dir": str(tmp_path / "state"), "metadata_database": metadata, "backends": {"local": driver}}
    own = tmp_path / "config"
    own.mkdir()
    master = yaml.safe_load((config_dir / "master").read_text())
    (own / "master").write_text(yaml.safe_dump({**master, "storage": storage}))
    return own


@pytest.fixture
def runner(master_config: Path) -> Any:
    """Return the runner's functions, called from Python, with that controller."""
    return salt.loader.runner({**salt.config.client_config(str(master_config / "master")), "__role": "master"})


def functions(loaded: dict[str, Any]) -> dict[str, Any]:
    found = {name: loaded["runners"][name] for name in loaded["runners"] if name.startswith("storage.")}
    assert len(found) > 20
    return found


def test_wrong_arguments_fail_in_every_function(loaded: dict[str, Any]) -> None:
    for name, function in functions(loaded).items():
        with pytest.raises(InvalidArgumentError, match=f"{name.removeprefix('storage.')}: too many"):
            function(*["x"] * 20)


def test_every_function_fails_where_the_controller_is_not_configured(loaded: dict[str, Any]) -> None:
    for name, function in functions(loaded).items():
        if name not in ("storage.drivers", "storage.versions"):
            required = [p.name for p in inspect.signature(function).parameters.values() if p.default is p.empty]
            with pytest.raises(FailedPreconditionError):
                function(**dict.fromkeys(required, "x"))


def test_versions_name_the_missing_controller(loaded: dict[str, Any]) -> None:
    parts = {row["part"]: row for row in functions(loaded)["storage.versions"]() if row["host"] == "master"}
    assert parts["runner"]["version"]
    assert parts["controller"]["version"] is None
    assert "does not run" in parts["controller"]["hint"]


@pytest.mark.parametrize("form", ["options", "backends", "pillar"])
def test_a_backend_is_tried_before_it_is_configured(loaded: dict[str, Any], tmp_path: Path, form: str) -> None:
    options = {"volume_driver": "saltstorage.drivers.file.FileDriver", "file_driver_path": str(tmp_path / "volumes")}
    backends = {"backends": {"new": options}}
    file = tmp_path / "new.yaml"
    file.write_text(yaml.safe_dump({"options": options, "backends": backends, "pillar": {"storage": {"controller": backends}}}[form]))
    rows = functions(loaded)["storage.validate"]("new", file=str(file), life=True)
    assert {row["result"] for row in rows} == {"ok"}
    assert [row["step"] for row in rows][:5] == ["options", "names", "login", "statistics", "create"]
    assert list((tmp_path / "volumes").iterdir()) == []


def test_a_file_of_options_is_checked(loaded: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "new.yaml"
    with pytest.raises(FailedPreconditionError, match="cannot be read: No such file"):
        functions(loaded)["storage.validate"]("new", file=str(file))
    file.write_text("a: [s3cret")
    with pytest.raises(InvalidArgumentError, match="no valid YAML, line ") as caught:
        functions(loaded)["storage.validate"]("new", file=str(file))
    assert "s3cret" not in str(caught.value)
    file.write_text("backends: {other: {}}")
    with pytest.raises(InvalidArgumentError, match="has no backend 'new'; it has other"):
        functions(loaded)["storage.validate"]("new", file=str(file))


@pytest.mark.slow
@pytest.mark.parametrize("outputter", [[], ["--out=json"], ["--out=yaml"]])
def test_salt_run_shows_the_error_and_no_traceback(master_config: Path, outputter: list[str]) -> None:
    base = [str(Path(sys.executable).parent / "salt-run"), "-c", str(master_config), "--no-color", *outputter]
    done = subprocess.run([*base, "storage.give", "data", "db1"], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1, done
    assert "INVALID_ARGUMENT: give: missing a required argument: 'new_owner'" in " ".join(done.stdout.replace("''", "'").split()), done
    assert "Traceback" not in done.stdout + done.stderr


def table(rows: list[dict[str, Any]], opts: dict[str, Any]) -> list[dict[str, str]]:
    """Return what Salt's outputter shows under each heading, by row."""
    text = salt.output.out_format(rows, "table", {**opts, "color": False, "out.table.width": 10_000})
    lines = [[cell.strip() for cell in line.strip()[1:-1].split(" | ")] for line in text.splitlines() if "|" in line]
    headings = [heading.lower().replace(" ", "_") for heading in lines[0]]
    assert all(len(line) == len(headings) for line in lines), text
    return [dict(zip(headings, line, strict=True)) for line in lines[1:]]


@pytest.mark.root
@pytest.mark.slow
def test_a_table_has_each_value_under_its_heading(runner: Any, minion_opts: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "volumes").mkdir(mode=0o700)
    for name in ("old-image.img", "volume-11111111-1111-4111-8111-111111111111"):
        (tmp_path / "volumes" / name).write_bytes(b"x" * 512)
    runner["storage.create"]("plain", "db1", 1)
    runner["storage.create"]("rich", "db1", 2, labels={"env": "prod"}, description="Orders", protected=True)
    runner["storage.create"]("copy", "db1", 2, source={"volume": "plain"})
    runner["storage.snapshot_create"]("first", "db1", "plain")
    runner["storage.snapshot_create"]("second", "db1", "rich")
    expected = {"volumes": 3, "snapshots": 2, "backends": 1, "manageable": 2, "check": 4, "drivers": 3}
    for function, number in expected.items():
        rows = runner[f"storage.{function}"](*(["saltstorage"] if function == "drivers" else []))
        assert len(rows) == number, (function, rows)
        for row, shown in zip(rows, table(rows, minion_opts), strict=True):
            assert shown == {key: str(value).strip() for key, value in row.items()}, function
    volumes = {row["name"]: row for row in runner["storage.volumes"]()}
    assert (volumes["plain"]["labels"], volumes["plain"]["description"]) == ({}, "")
    assert (volumes["rich"]["labels"], volumes["rich"]["description"]) == ({"env": "prod"}, "Orders")
    [repaired] = runner["storage.repair"](remove="11111111-1111-4111-8111-111111111111")
    assert (repaired["done"], repaired["error"], repaired["code"], repaired["host"]) == (False, None, None, "")
