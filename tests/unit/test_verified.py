"""The table of what the lab has shown."""

from __future__ import annotations

import json

import pytest

from tests.lab import verified

OLD = {"commit": "1a2b3c4", "date": "2026-01-01 00:00", "seconds": 9, "machine": "a machine", "kernels": ["1.0"], "versions": ["salt 1"]}
TABLE = {
    "runs": [OLD, {**OLD, "date": "2026-02-02 00:00"}],
    "rows": [["file", "iSCSI", "grow", "passed", 0], ["LVM", "iSCSI", "grow", "passed", 1]],
}


@pytest.fixture
def part(tmp_path):
    """The part that a run left in which the file driver's volumes did not grow."""
    run = verified.Verified(started=0, kernels={"6.1"})
    with pytest.raises(AssertionError), run("file", "iSCSI", "grow"):
        raise AssertionError
    with run("file", "iSCSI", "attach"):
        pass
    run.save(tmp_path / "one.json")
    return tmp_path / "one.json"


def test_a_row_belongs_to_the_last_run_that_showed_it(part):
    table = verified.add([part], TABLE)
    assert table["rows"] == [
        ["LVM", "iSCSI", "grow", "passed", 0],
        ["file", "iSCSI", "grow", "failed", 1],
        ["file", "iSCSI", "attach", "passed", 1],
    ]
    assert [run["date"] for run in table["runs"]] == ["2026-02-02 00:00", "1970-01-01 00:00"], "one without rows is gone"
    assert table["runs"][1]["kernels"] == ["6.1"]
    assert any(version.startswith("salt ") for version in table["runs"][1]["versions"])
    json.dumps(table)


def test_the_page_names_the_run_of_each_row():
    page = verified.text(TABLE)
    assert "   * - LVM\n     - iSCSI\n     - grow\n     - passed\n     - 2\n" in page
    assert "Run 2: 2026-02-02 00:00 UTC\n---------------------------\n\n:Commit: 1a2b3c4\n" in page


def test_recording_adds_to_what_is_there(part, monkeypatch, tmp_path):
    monkeypatch.setattr(verified, "PARTS", part.parent)
    path = tmp_path / "docs" / "table"
    path.parent.mkdir()
    path.with_suffix(".json").write_text(json.dumps(TABLE))
    verified.record(path)
    assert len(json.loads(path.with_suffix(".json").read_text())["rows"]) == 3
    assert "Run 2: 1970-01-01 00:00 UTC" in path.with_suffix(".rst").read_text()
