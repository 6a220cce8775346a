"""Build a release from one commit: `make release`. Takes --dirty and --output FOLDER.

A release is the archive of the formula, the wheel of the Salt extension, and SHA256SUMS of both.
Two builds of one commit are the same bytes: files, times and modes come from git alone, and
setuptools comes from requirements/release.txt.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
import os
import re
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
#: The contents of the archive: the formula for `file_roots`, and its documentation.
FORMULA = (
    *("_engines", "_modules", "_runners", "_states", "_utils", "storage", "requirements", "docs"),
    *("CHANGELOG.rst", "CONTRIBUTING.rst", "FORMULA", "LICENSE", "README.rst", "SECURITY.rst", "pillar.example"),
)
#: For development alone.
LEFT_OUT = ("requirements/dev.", "requirements/release.", "requirements/compile.sh")


class NoReleaseError(Exception):
    """The reason why there is no release of this tree."""


def main(arguments: list[str]) -> int:
    """Build, print the files, and return the exit code."""
    parser = argparse.ArgumentParser(prog="make release", description="Build the archive of the formula, the wheel, and SHA256SUMS.")
    parser.add_argument("--dirty", action="store_true", help="build the changes of tracked files that are not committed too")
    parser.add_argument("--output", type=Path, help="folder (default: build/release; build/release-dirty with --dirty)")
    given = parser.parse_args(arguments)
    output = given.output or CHECKOUT / "build" / ("release-dirty" if given.dirty else "release")
    try:
        built = build(CHECKOUT, output, dirty=given.dirty)
    except NoReleaseError as error:
        print(error, file=sys.stderr)
        return 1
    for path in built:
        print(path)
    return 0


def build(checkout: Path, output: Path, *, dirty: bool = False) -> list[Path]:
    """Build a release of what a checkout has committed, and return its files.

    :param output: a folder; files of an earlier release in it are removed.
    :param dirty: with the changes of tracked files that are not committed. Files that git does not
        know are never part of a release.
    :raises NoReleaseError: there are such changes or files and ``dirty`` is False, or the versions
        differ, or the wheel cannot be built.
    """
    commit = _commit(checkout, dirty)
    epoch = int(_git(checkout, "show", "--no-patch", "--format=%ct", "HEAD"))
    tree = _git(checkout, "-c", "tar.umask=0022", "archive", "--format=tar", commit)
    output.mkdir(parents=True, exist_ok=True)
    for old in (*output.glob("salt-storage-formula-*.tar.gz"), *output.glob("saltext_storage-*.whl"), *output.glob("SHA256SUMS")):
        old.unlink()
    with tempfile.TemporaryDirectory(prefix="release.") as folder:
        stage = Path(folder)
        with tarfile.open(fileobj=io.BytesIO(tree)) as files:
            # The modes are git's, whatever the umask is. Python 3.11.2, that of Debian 12, knows no
            # ``filter=``, and from 3.14 on, without it a filter that changes modes is used.
            files.extraction_filter = lambda member, _folder: member
            files.extractall(stage)  # noqa: S202 the commit is ours
        version = _version(stage)
        built = [_archive(tree, output, version, epoch), _wheel(stage, output, epoch)]
    sums = output / "SHA256SUMS"
    sums.write_text("".join(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in built))
    return [*built, sums]


def _commit(checkout: Path, dirty: bool) -> str:
    changes = _git(checkout, "status", "--porcelain").decode()
    if changes and not dirty:
        raise NoReleaseError(f"no release of a tree with changes that are not committed (make release DIRTY=yes builds one):\n{changes}")
    # Git asks for an author even of a commit that nobody keeps. Without changes, it makes none.
    author = ("-c", "user.name=release", "-c", "user.email=release@localhost")
    return (dirty and _git(checkout, *author, "stash", "create").decode().strip()) or "HEAD"


def _version(stage: Path) -> str:
    found = {
        "FORMULA": re.search(r"^version: (\S+)$", (stage / "FORMULA").read_text(), re.MULTILINE),
        "_utils/saltstorage/__init__.py": re.search(
            r'^__version__ = "(\S+)"$', (stage / "_utils/saltstorage/__init__.py").read_text(), re.MULTILINE
        ),
    }
    versions = {name: match[1] if match else "none" for name, match in found.items()}
    if len(set(versions.values())) > 1:
        raise NoReleaseError("the versions differ: " + ", ".join(f"{version} in {name}" for name, version in versions.items()))
    return versions["FORMULA"]


def _archive(tree: bytes, output: Path, version: str, epoch: int) -> Path:
    """Write the archive of the formula, in one folder of its own name."""
    name = f"salt-storage-formula-{version}"
    path = output / f"{name}.tar.gz"
    with (
        tarfile.open(fileobj=io.BytesIO(tree)) as source,
        path.open("wb") as file,
        gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=epoch) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.GNU_FORMAT) as target,
    ):
        for member in sorted(source.getmembers(), key=lambda member: member.name):
            if member.name.split("/")[0] not in FORMULA or member.name.startswith(LEFT_OUT):
                continue
            content = source.extractfile(member) if member.isfile() else None
            member.name, member.mtime = f"{name}/{member.name}", epoch
            member.pax_headers = {}
            member.uid = member.gid = 0
            member.uname = member.gname = "root"
            target.addfile(member, content)
    return path


def _wheel(stage: Path, output: Path, epoch: int) -> Path:
    """Have setuptools build the wheel in an environment of its own, from its own lock file."""
    uv = Path(sys.executable).parent / "uv"
    locked = ["--build-constraints", str(stage / "requirements" / "release.txt"), "--require-hashes"]
    command = [str(uv), "build", "--quiet", "--wheel", "--no-create-gitignore", "--python", sys.executable, *locked]
    done = subprocess.run(
        [*command, "--out-dir", str(output.resolve()), str(stage)],
        env={**os.environ, "SOURCE_DATE_EPOCH": str(epoch), "PYTHONHASHSEED": "0"},
        # Folders and files that the backend makes have these modes too.
        umask=0o022,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        raise NoReleaseError(f"setuptools built no wheel:\n{done.stdout}")
    [wheel] = output.glob("saltext_storage-*.whl")
    return wheel


def _git(checkout: Path, *arguments: str) -> bytes:
    return subprocess.run(["git", "-C", str(checkout), *arguments], stdout=subprocess.PIPE, check=True).stdout


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
