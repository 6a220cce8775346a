"""The page of required behaviours: no row without a proof or a reason, and no proof of a row that
is not there.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import pytest
from sphinx.errors import ExtensionError

from tests.conftest import CHECKOUT

ROWS = """
[[section]]
title = "All of it"
start = "Before."
end = "After."
[section.row.P1]
rule = "No name"
required = "INVALID_ARGUMENT."
[section.row.P12]
rule = "No room"
required = "RESOURCE_EXHAUSTED."
"""
TESTS = '''
def test_p1_no_name():
    pass

class TestThings:
    async def test_no_room(self):
        """Rows P1 and P12, not a word of X9, XP1 or P123."""

def helper_p7_is_no_test():
    """P8"""
'''


@pytest.fixture(scope="module")
def semantics():
    spec = importlib.util.spec_from_file_location("semantics", CHECKOUT / "docs/_ext/semantics.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


@pytest.fixture
def project(tmp_path, semantics):
    """A function that makes a project of such rows and tests, and returns its sections and the
    tests' folder.
    """

    def make(rows=ROWS, tests=TESTS):
        (tmp_path / "tests/unit").mkdir(parents=True)
        (tmp_path / "tests/unit/test_things.py").write_text(tests)
        (tmp_path / "semantics.toml").write_text(rows)
        return semantics.load(tmp_path / "semantics.toml"), tmp_path / "tests"

    return make


def test_every_row_has_its_tests(semantics, project):
    found = semantics.proofs(*project())
    assert found == {
        "P1": ["tests/unit/test_things.py::test_p1_no_name", "tests/unit/test_things.py::test_no_room"],
        "P12": ["tests/unit/test_things.py::test_no_room"],
    }


def test_a_row_without_test(semantics, project):
    with pytest.raises(ExtensionError, match="row P12 has no test") as caught:
        semantics.proofs(*project(tests="def test_p1_no_name(): pass"))
    assert "P1 has" not in str(caught.value)


def test_a_row_that_says_why_it_has_none(semantics, project):
    sections, folder = project(rows=ROWS + 'open = "there is no such array here"\n', tests="def test_p1_no_name(): pass")
    lines = semantics.render(sections, semantics.proofs(sections, folder))
    assert "   *Not shown yet:* there is no such array here." in lines


@pytest.mark.parametrize("test", ["def test_p2_p12_p1(): pass", 'def test_it():\n    """P1, P12, P2."""'])
def test_a_test_of_a_row_that_is_not_there(semantics, project, test):
    with pytest.raises(ExtensionError, match=r"tests/unit/test_things.py::test_\w+ names row P2, which is not there"):
        semantics.proofs(*project(tests=test))


def test_the_same_row_twice(project):
    with pytest.raises(ValueError, match="P12"):
        project(rows=ROWS + '[section.row.P12]\nrule = ""\nrequired = ""\n')


@pytest.mark.parametrize("complete", [True, False])
def test_sphinx_builds_the_page_or_fails(semantics, project, tmp_path, complete):
    project(tests=TESTS if complete else "def test_p1_no_name(): pass")
    docs = tmp_path / "docs"
    docs.mkdir()
    (tmp_path / "semantics.toml").rename(docs / "semantics.toml")
    (docs / "conf.py").write_text(f"import sys\nsys.path.insert(0, {str(CHECKOUT / 'docs/_ext')!r})\nextensions = ['semantics']\n")
    (docs / "index.rst").write_text("Page\n====\n\n.. semantics::\n\nSee :ref:`this <row-p12>`.\n")
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "-b", "text", str(docs), str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode == 0) is complete, done.stderr
    if complete:
        text = (tmp_path / "out/index.txt").read_text()
        places = [text.index(word) for word in ("Before.", "**P1**", "test_p1_no_name", "**P12**", "After.")]
        assert places == sorted(places)
    else:
        assert "row P12 has no test" in done.stderr


def test_the_projects_own_table(semantics):
    """Also found by the build of the documentation; here it is found sooner."""
    sections = semantics.load(CHECKOUT / "docs/semantics.toml")
    found = semantics.proofs(sections, CHECKOUT / "tests")
    assert len(found) > 100
