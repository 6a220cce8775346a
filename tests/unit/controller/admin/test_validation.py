"""A backend that is tried, with real drivers, in the process that the trial has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from saltstorage import errors
from saltstorage.controller import desk
from saltstorage.controller.admin import validation

FILE = "saltstorage.drivers.file.FileDriver"
ISCSI = "saltstorage.drivers.file_iscsi.FileISCSIDriver"
HERE = "tests.unit.controller.admin.trial_driver"
SECRET = "s3cret-of-the-trial"
CONNECTOR = {"host": "db1.example.org", "ip": "192.0.2.7", "initiator": "iqn.2004-10.com.example:db1"}


@pytest.fixture
def trial(tmp_path: Path) -> Any:
    """Return a function that tries a backend ``new`` and returns the rows of the steps, and the
    error.
    """

    def run(driver: str = FILE, *, options: dict[str, Any] | None = None, configured: bool = True, **how: Any) -> Any:
        given = {"volume_driver": driver, "file_driver_path": str(tmp_path / "volumes"), **(options or {})}
        settings = {"storage": {"backends": {"new": given}} if configured else {}, "id": "master"}
        args = {"name": "new", **({} if configured else {"options": given}), **how}
        try:
            return desk.try_backend(settings, args), None
        except errors.StorageError as error:
            return (error.details or {}).get("rows"), error

    return run


def steps(rows: list[dict[str, Any]]) -> list[str]:
    return [row["step"] for row in rows]


def left(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "volumes").iterdir())


@pytest.mark.parametrize("configured", [True, False])
def test_a_good_backend(trial, tmp_path, configured):
    rows, error = trial(configured=configured)
    assert error is None
    assert steps(rows) == ["options", "names", "login", "statistics"]
    assert {row["result"] for row in rows} == {"ok"}
    assert all(row["seconds"] >= 0 for row in rows)
    assert "GiB free" in rows[-1]["text"]
    assert left(tmp_path) == []


def test_the_life_of_a_volume(trial, tmp_path):
    rows, error = trial(life=True)
    assert error is None
    assert steps(rows)[4:] == [
        *("create", "snapshot", "volume from snapshot", "clone", "extend"),
        *("delete", "delete", "delete the snapshot", "delete"),
    ]
    assert rows[8]["text"] == "2 GiB"
    assert left(tmp_path) == []


def test_a_volume_is_mapped_to_a_host(trial, tmp_path):
    rows, error = trial(life=True, connector=CONNECTOR)
    assert error is None
    [mapped] = [row for row in rows if row["step"] == "map"]
    assert mapped["text"] == "for db1.example.org, by local"
    assert steps(rows)[-5:] == ["unmap", "delete", "delete", "delete the snapshot", "delete"]
    assert left(tmp_path) == []


@pytest.mark.parametrize(
    ("options", "step", "code", "words"),
    [
        ({"volume_driver": "cinder.volume.drivers.lvm.LVMVolumeDrive"}, "options", "INVALID_ARGUMENT", "does not exist"),
        ({"file_drver_path": "x"}, "options", "INVALID_ARGUMENT", "did you mean 'file_driver_path'"),
        ({"provider": "none.such:Provider"}, "options", "INVALID_ARGUMENT", "none.such"),
        (
            {"volume_driver": ISCSI, "target_ip_address": "array1.invalid"},
            "names",
            "FAILED_PRECONDITION",
            "cannot resolve the name 'array1.invalid' in the option 'target_ip_address'",
        ),
        ({"file_driver_path": "/dev/null/x"}, "login", "INVALID_ARGUMENT", "/dev/null/x"),
    ],
)
def test_the_first_step_that_fails_says_why(trial, options, step, code, words):
    rows, error = trial(options=options, life=True)
    assert (rows[-1]["step"], rows[-1]["result"], rows[-1]["code"], error.code) == (step, "failed", code, code)
    assert words in rows[-1]["text"]
    assert f"backend 'new' failed: {step}: " in error.message


def test_what_was_made_is_removed_when_a_step_fails(trial, tmp_path):
    rows, error = trial(f"{HERE}.CannotCloneDriver", options={"chap_password": SECRET}, life=True)
    assert [row["step"] for row in rows if row["result"] == "failed"] == ["clone"]
    assert "failed: clone: " in error.message
    assert SECRET not in str(error) + str(error.details)
    assert steps(rows)[-4:] == ["delete", "delete", "delete the snapshot", "delete"]
    assert left(tmp_path) == []


def test_what_could_not_be_removed_is_named(trial, tmp_path):
    rows, error = trial(f"{HERE}.CannotDeleteDriver", life=True)
    [text] = [row["text"] for row in rows if row["step"] == "clean up"]
    assert len(left(tmp_path)) == 3
    assert all(name in text for name in left(tmp_path))
    assert error.code == "INTERNAL"


def test_a_driver_that_hangs_is_ended(trial):
    rows, error = trial(f"{HERE}.HangingDriver", timeout=8)
    # On a busy machine, it may not have come to the login.
    assert steps(rows)[-1] in ("start", "options", "names", "login")
    assert "no answer within 8 seconds" in rows[-1]["text"]
    assert error.code == "UNAVAILABLE"


def test_a_driver_that_crashes_leaves_a_list(trial, tmp_path):
    rows, _error = trial(f"{HERE}.CrashingDriver", life=True)
    assert steps(rows)[-2:] == ["clone", "clean up"]
    for name in left(tmp_path):
        assert name.partition(".")[0] in rows[-1]["text"]


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ({"name": "knew"}, "backend 'knew' is not configured on the controller; did you mean 'new'?"),
        ({"name": "other"}, "known: new"),
        ({"name": ""}, "name is empty"),
        ({"name": "new", "options": "x"}, "must be a mapping"),
        ({"name": "new", "timeout": 0}, "timeout must be a number of seconds"),
        ({"name": "new", "minion": "x"}, "unexpected keyword argument 'minion'"),
    ],
)
def test_wrong_arguments(args, words):
    settings = {"storage": {"backends": {"new": {"volume_driver": FILE}}}}
    with pytest.raises(errors.InvalidArgumentError) as caught:
        desk.try_backend(settings, args)
    assert words in str(caught.value)


def test_nothing_is_known_of_a_controller_without_configuration():
    with pytest.raises(errors.FailedPreconditionError, match="no storage controller is configured here; file=…"):
        validation.run(None, name="x")
