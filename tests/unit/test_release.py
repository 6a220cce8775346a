"""The files of a release: complete, the same bytes twice, and made from commits alone."""

from __future__ import annotations

import email
import hashlib
import importlib.util
import os
import subprocess
import tarfile
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from saltstorage import __version__
from tests.conftest import CHECKOUT

pytestmark = pytest.mark.slow

IDENTITY = dict.fromkeys(("GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL"), "test")


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("release", CHECKOUT / "tools/release.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def git(folder: Path, *arguments: str) -> str:
    return subprocess.run(["git", "-C", str(folder), *arguments], stdout=subprocess.PIPE, text=True, check=True).stdout


def clone(to: Path) -> Path:
    """Clone this checkout, with the changes of tracked files as a commit."""
    who = ("-c", "user.name=test", "-c", "user.email=test@localhost")
    commit = git(CHECKOUT, *who, "stash", "create").strip() or git(CHECKOUT, "rev-parse", "HEAD").strip()
    # Shared: the commit of the stash belongs to no branch, and a fetch would not bring it.
    git(CHECKOUT, "clone", "--quiet", "--shared", "--no-checkout", str(CHECKOUT), str(to))
    git(to, "checkout", "--quiet", "--detach", commit)
    return to


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return clone(tmp_path_factory.mktemp("tree") / "checkout")


@pytest.fixture(scope="module")
def built(tool: ModuleType, tree: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {path.suffix: path for path in tool.build(tree, tmp_path_factory.mktemp("release"))}


@pytest.fixture
def private_files() -> Iterator[None]:
    before = os.umask(0o077)
    yield
    os.umask(before)


def tracked(folder: str) -> set[str]:
    return {name.removeprefix(f"{folder}/") for name in git(CHECKOUT, "ls-files", folder).splitlines()}


@pytest.mark.usefixtures("private_files")
def test_two_builds_of_one_commit_are_the_same_bytes(
    tool: ModuleType, tree: Path, built: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "elsewhere"
    git(tree, "clone", "--quiet", str(tree), str(other))
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "86400000")
    again = tool.build(other, tmp_path / "release")
    assert [path.name for path in again] == [path.name for path in built.values()]
    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in built.values()]


def test_the_checksums_are_those_of_the_files(built: dict[str, Path]) -> None:
    sums = built[""].read_text().splitlines()
    assert built[""].name == "SHA256SUMS"
    assert sums == [f"{hashlib.sha256(built[kind].read_bytes()).hexdigest()}  {built[kind].name}" for kind in (".gz", ".whl")]


def test_the_archive_is_the_formula(built: dict[str, Path]) -> None:
    top = f"salt-storage-formula-{__version__}"
    assert built[".gz"].name == f"{top}.tar.gz"
    with tarfile.open(built[".gz"]) as archive:
        members = archive.getmembers()
    assert {(member.uid, member.gid, member.mode & 0o022, member.mtime) for member in members} == {(0, 0, 0, members[0].mtime)}
    files = {member.name.removeprefix(f"{top}/") for member in members if not member.isdir()}
    for folder in ("_modules", "_states", "_runners", "_engines", "_utils", "storage", "docs"):
        assert tracked(folder) == {name.removeprefix(f"{folder}/") for name in files if name.startswith(f"{folder}/")}
    assert {"FORMULA", "LICENSE", "README.rst", "pillar.example"} <= files
    assert {"storage/requirements/controller.txt", "storage/requirements/consumer.txt"} <= files
    assert not [name for name in files if name.startswith(("tests", "tools", "demo", "saltext", ".", "requirements/dev"))]


def test_the_wheel_is_the_same_files_in_an_extension(built: dict[str, Path]) -> None:
    assert built[".whl"].name == f"saltext_storage-{__version__}-py3-none-any.whl"
    with zipfile.ZipFile(built[".whl"]) as wheel:
        names = set(wheel.namelist())
        [metadata] = [email.message_from_bytes(wheel.read(name)) for name in names if name.endswith("/METADATA")]
        [entries] = [wheel.read(name).decode() for name in names if name.endswith("/entry_points.txt")]
    for package, folder in {
        **{kind: f"_{kind}" for kind in ("modules", "states", "runners", "engines", "utils")},
        "formula/storage": "storage",
    }.items():
        prefix = f"saltext/storage/{package}/"
        assert {name.removeprefix(prefix) for name in names if name.startswith(prefix)} == tracked(folder), package
    assert "saltext/storage/formula/storage/requirements/controller.txt" in names
    assert "saltext/storage/formula/requirements/dev.txt" not in names
    # A top level of others' is left alone.
    assert {name.split("/")[0] for name in names} == {"saltext", f"saltext_storage-{__version__}.dist-info"}
    assert "saltext/__init__.py" not in names
    assert metadata["Name"] == "saltext.storage"
    assert metadata.get_all("Requires-Dist") == ["salt>=3006"]
    assert metadata["Requires-Python"] == ">=3.11"
    assert entries.split() == ["[salt.loader]", "saltext.storage", "=", "saltext.storage"]


def test_setuptools_is_locked() -> None:
    required = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["build-system"]["requires"]
    asked = [line for line in (CHECKOUT / "requirements/release.in").read_text().splitlines() if not line.startswith("#")]
    assert asked == required
    assert (CHECKOUT / "requirements/release.txt").read_text().startswith("setuptools==")


def test_changes_that_are_not_committed_are_refused(
    tool: ModuleType, built: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = clone(tmp_path / "tree")
    monkeypatch.setattr(tool, "CHECKOUT", tree)
    (tree / "new.py").touch()
    (tree / "pillar.example").write_text("changed: true\n")
    assert tool.main([]) == 1
    told = capsys.readouterr().err
    assert "not committed" in told
    assert " M pillar.example" in told
    assert "?? new.py" in told
    assert not (tree / "build").exists()
    assert tool.main(["--dirty"]) == 0
    with tarfile.open(tree / "build/release-dirty" / built[".gz"].name) as archive:
        changed = archive.extractfile(f"salt-storage-formula-{__version__}/pillar.example")
        assert changed is not None
        assert changed.read() == b"changed: true\n"


def test_versions_that_differ_are_refused(tool: ModuleType, tmp_path: Path) -> None:
    tree = clone(tmp_path / "tree")
    formula = tree / "FORMULA"
    formula.write_text(formula.read_text().replace(f"version: {__version__}", "version: 0.0.1"))
    subprocess.run(["git", "-C", tree, "commit", "--quiet", "--all", "--message=version"], check=True, env={**os.environ, **IDENTITY})
    with pytest.raises(tool.NoReleaseError, match=rf"the versions differ: 0\.0\.1 in FORMULA, {__version__} in "):
        tool.build(tree, tmp_path / "release")
