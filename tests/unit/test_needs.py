"""The table of packages is whole: programs that are called are in it, and so are the packages of
all protocols and file systems.
"""

from __future__ import annotations

import ast
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from saltstorage.consumer.filesystems import mkfs
from saltstorage.consumer.host import commands
from tests import needs

#: Programs that every Debian has, since their packages are essential, and those that the README
#: asks for.
ALWAYS = {
    *("/bin/sh", "apt-cache", "apt-get", "bash", "cat", "chown", "dpkg", "dpkg-query", "git", "grep", "ls", "sh", "sleep"),
    *("stdbuf", "sync", "true"),
}
#: Functions whose list begins with a program.
STARTERS = {"run", "Popen", "execve", "_run", "_output", "in_background"}
#: Functions whose first argument is a program.
FINDERS = {"commands.find", "shutil.which", "_find"}


def called(folder: Path) -> Iterator[tuple[str, Path]]:
    """Yield each program that is called by its name, with the file that calls it."""
    for path in sorted(folder.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            lists: list[ast.expr] = []
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) in ("command", "argv"):
                lists = [node.value]
            elif isinstance(node, ast.Call):
                function = ast.unparse(node.func)
                lists = node.args if function.rpartition(".")[2] in STARTERS else []
                if function in FINDERS:
                    lists = [ast.List(node.args)]
            for found in lists:
                if isinstance(found, ast.List) and found.elts and isinstance(first := found.elts[0], ast.Constant):
                    yield first.value.decode() if isinstance(first.value, bytes) else str(first.value), path


@pytest.mark.parametrize(
    ("folder", "users"),
    [("_utils", ["tests", "lab"]), ("demo", ["demo"]), ("tests", ["tests", "lab"]), ("tests/lab", ["lab"])],
)
def test_programs_that_are_called_are_in_the_table(checkout, folder, users):
    known = {name for user in users for names in needs.packages(user).values() for name in names} | ALWAYS
    found = dict(called(checkout / folder))
    assert len(found) >= 2, "the calls are found"
    assert {name: str(path.relative_to(checkout)) for name, path in found.items() if name not in known} == {}


def test_packages_that_messages_name_are_those_of_the_table():
    """Messages name those of Debian and Red Hat alike, and so not Debian's part of a package."""
    assert {name: package for name, package in commands.PACKAGES.items() if needs.package_of(name).removesuffix("-bin") != package} == {}


def test_file_systems_are_made_by_what_tests_install():
    names = {name for names in needs.packages("tests").values() for name in names}
    assert {f"mkfs.{fstype}" for fstype in mkfs.FSTYPES} <= names


def test_packages_of_all_protocols_are_installed_for_tests_or_the_lab(checkout):
    protocols = yaml.safe_load((checkout / "storage" / "osfamilymap.yaml").read_text())["Debian"]
    # A fresh machine has the packages of the storage environment before anything else.
    wanted = {package for name, needed in protocols.items() if name != "environment" for package in needed["packages"]}
    assert wanted <= {*needs.packages("tests"), *needs.packages("lab")}


@pytest.mark.slow
def test_a_skip_for_another_reason_than_the_kernel_fails(tmp_path, checkout):
    (tmp_path / "conftest.py").write_text("from tests.conftest import *\n")
    (tmp_path / "test_it.py").write_text(
        textwrap.dedent("""\
            import pytest
            from tests import needs

            def test_kernel():
                pytest.skip(needs.NO_MAPPER)

            @pytest.mark.skipif(True, reason=needs.NO_LOOP)
            def test_marked(): ...

            def test_program():
                pytest.skip("mkfs.none is not installed")

            @pytest.mark.skip(reason="flaky")
            def test_marked_otherwise(): ...
            """)
    )
    (tmp_path / "test_other.py").write_text('import pytest\npytest.importorskip("nothing")\n')
    options = ["-q", "--continue-on-collection-errors", "-p", "no:cacheprovider", "--rootdir", tmp_path, "-c", checkout / "pyproject.toml"]
    done = subprocess.run([sys.executable, "-m", "pytest", *options, tmp_path], cwd=checkout, check=False, capture_output=True, text=True)
    assert "1 failed, 2 skipped, 2 errors" in done.stdout.splitlines()[-1], done.stdout
    assert "only tests/needs.py gives reasons for: mkfs.none is not installed" in done.stdout
    assert "only tests/needs.py gives reasons for: flaky" in done.stdout
    assert "only tests/needs.py gives reasons for: could not import 'nothing'" in done.stdout


@pytest.mark.root
def test_a_missing_program_fails_and_names_its_package():
    with pytest.raises(pytest.fail.Exception, match="mkfs.btrfs is missing, install the package btrfs-progs"):
        needs.programs("mkfs.btrfs", path="/nowhere")
