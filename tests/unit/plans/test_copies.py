"""Copies that are larger than their origin, and mounted beside it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from saltstorage.controller.admin import copying
from tests.unit.plans.minion import ok

pytestmark = pytest.mark.root


@pytest.mark.parametrize("kind", ["snapshot", "volume"])
def test_p8_r20_a_larger_copy_is_mounted_beside_its_origin(host, kind):
    """P6, P8, R20: with the data, at full size, and although XFS mounts no UUID twice by itself."""
    ok(host.mounted())
    Path(host.mount_point, "file").write_text("kept")
    ok(host.state("disconnected"))
    ok(host.state("snapshot_present", "cut"))
    ok(host.mounted())
    source = {"snapshot": "cut"} if kind == "snapshot" else {"volume": "data"}
    if kind == "volume":
        ok(host.state("disconnected"))
        ok(host.state("present", "copy", size=2, source=source))
        ok(host.mounted())
    point = host.folder / "copy"
    wanted = {"name": "copy", "size": 2, "source": source, "mount": str(point)}
    done = host.mounted(**wanted)
    assert done["result"] is True, done
    facts = os.statvfs(point)
    assert facts.f_blocks * facts.f_frsize > 1.8 * 2**30
    assert (point / "file").read_text() == "kept"
    (point / "file").write_text("changed")
    assert Path(host.mount_point, "file").read_text() == "kept"
    assert ok(host.mounted(**wanted))["changes"] == {}
    assert ok(host.mounted())["changes"] == {}
    ok(host.state("disconnected", "copy"))


@pytest.fixture
def live(shared_blocks, hosts):
    """A minion whose backend copies volumes that are in use."""
    return hosts(volumes=shared_blocks)


def volumes(host, *names, size=1, **given):
    """Return states that mount volumes, each a copy of the one before it."""
    states = []
    for number, name in enumerate(names):
        source = {"source": {"volume": names[number - 1]}} if number else {}
        states.append(("mounted", {"name": name, "size": size + number, "mount": str(host.folder / name), **source, **given}))
    return states


def refused(answer, code, *words):
    """Check that a state failed with a code and some words in its comment, and changed nothing."""
    assert (answer["result"], answer["changes"]) == (False, {}), answer
    assert answer["comment"].startswith(f"{code}: "), answer
    assert all(word in answer["comment"] for word in words), answer


def test_m16_a_volume_and_its_copy_in_one_run(live):
    """Row M16: copies are made after their source got its file system, a copy of a copy too.

    Requests travel ahead all the same.
    """
    states = volumes(live, "first", "copy", "second copy")
    foretold = live.apply(*states, test=True)
    assert [found["result"] for found in foretold] == [None] * 3, foretold
    done = live.apply(*states)
    assert [found["result"] for found in done] == [True] * 3, done
    assert [found["changes"].get("filesystem", {}).get("new") for found in done] == ["xfs", "2048 MiB", "3072 MiB"], done
    uuids = {subprocess.check_output(["blkid", "-o", "value", "-s", "UUID", live.folder / "dev" / name]) for name in ("first", "copy")}
    assert len(uuids) == 1, "the copy has the file system of its source"
    again = live.apply(*states)
    assert [(found["result"], found["changes"]) for found in again] == [(True, {})] * 3, again


def test_m16_requests_of_states_that_do_not_depend_on_one_another_still_travel_together(live):
    """Row M16: copies of a source that is ready, and a volume beside its copy."""
    asked, execute = [], live.service.execute

    def recorded(op, args, caller):
        asked.append((op, [request["args"]["name"] for request in args.get("requests", ())]))
        return execute(op, args, caller)

    live.service.execute = recorded
    first, *_ = volumes(live, "first")
    copies = [("mounted", {**first[1], "name": f"c{n}", "mount": str(live.folder / f"c{n}"), "source": {"volume": "first"}}) for n in "ab"]
    done = live.apply(first, *copies)
    assert [found["result"] for found in done] == [True] * 3, done
    assert [names for op, names in asked if op == "together"] == [["ca", "cb"]]


def test_m16_a_copy_is_not_made_of_a_source_that_failed_or_comes_later(live):
    """Row M16: F, with a message that names the state, and nothing is made.

    A copy that exists is not held up.
    """
    first, copy, _ = volumes(live, "first", "copy", "more")
    for test in (True, False):
        refused(live.apply(copy, test=test)[0], "NOT_FOUND", "the source volume 'first' of web1 does not exist")
    failing = ("mounted", {**first[1], "mount_options": "no such option"})
    refused(live.apply(failing, copy)[1], "FAILED_PRECONDITION", "'first'", "failed in this run")
    refused(live.apply(copy, failing)[0], "FAILED_PRECONDITION", "'first'", "later in this run")
    assert live.flow.inventory().volume("web1", "copy") is None
    assert [found["result"] for found in live.apply(first, copy)] == [True, True]
    ok(live.state("disconnected", "copy"))
    done = live.apply(failing, copy)
    assert [found["result"] for found in done] == [False, True], done


def test_m16_a_source_goes_after_its_copies(live):
    """Row M16: absent of a volume that this run copies waits for the copy."""
    first, copy = volumes(live, "first", "copy")
    gone = ("absent", {"name": "first", "disconnect": True})
    ok(live.apply(first)[0])
    refused(live.apply(gone, copy)[0], "FAILED_PRECONDITION", "'copy'", "later in this run")
    failing = ("mounted", {**copy[1], "mount_options": "no such option"})
    ok(live.state("absent", "copy", disconnect=True))
    refused(live.apply(failing, gone)[1], "FAILED_PRECONDITION", "'copy'", "failed in this run")
    done = live.apply(copy, gone)
    assert [found["result"] for found in done] == [True, True], done
    done = live.apply(gone, copy)
    assert [(found["result"], found["changes"]) for found in done] == [(True, {})] * 2, done


def test_m16_a_mount_point_inside_another_one(live):
    """Row M16: the inner one waits for the outer one, which would hide it."""
    [outer] = volumes(live, "outer")
    inner = ("mounted", {"name": "inner", "size": 1, "mount": f"{outer[1]['mount']}/inner"})
    refused(live.apply(inner, outer)[0], "FAILED_PRECONDITION", "later in this run")
    done = live.apply(outer, inner)
    assert [found["result"] for found in done] == [True, True], done
    assert os.path.ismount(inner[1]["mount"])
    # Mounted as they shall be, they may stand in any order.
    done = live.apply(inner, outer)
    assert [(found["result"], found["changes"]) for found in done] == [(True, {})] * 2, done
    for name in ("inner", "outer"):
        ok(live.state("disconnected", name))
    failing = ("mounted", {**outer[1], "mount_options": "no such option"})
    refused(live.apply(failing, inner)[1], "FAILED_PRECONDITION", "'outer'", "failed in this run")


def test_m16_a_half_made_file_system_is_not_copied(live):
    """Row M16: mkfs of the source was cut off on this host, in this run or an earlier one."""
    first, copy = volumes(live, "first", "copy")
    ok(live.state("connected", "first", size=1))
    live.flow.consumer.begin_format("first")
    refused(live.apply(copy)[0], "FAILED_PRECONDITION", "'first'", "was cut off on this host")
    assert [found["result"] for found in live.apply(first, copy)] == [True, True]


@pytest.mark.parametrize("kind", ["volume", "snapshot"])
def test_m16_a_copy_of_a_volume_that_was_never_formatted_is_formatted_later(live, kind):
    """Row M16: it is as empty as its source, and so no data of it can have been lost."""
    ok(live.state("connected", "raw", size=1))
    ok(live.state("snapshot_present", "cut", volume="raw"))
    source = {"volume": "raw"} if kind == "volume" else {"snapshot": "cut"}
    done = live.state("mounted", "copy", size=1, source=source)
    assert done["result"] is True, done
    assert done["changes"]["filesystem"] == {"old": None, "new": "xfs"}


def test_r3_the_table_of_file_systems_names_the_link(host):
    ok(host.mounted())
    [line] = (host.folder / "fstab").read_text().splitlines()
    assert line.split()[:2] == [str(host.folder / "dev" / "data"), host.mount_point]


def test_p10_copies_are_as_asked_for_when_their_origin_is_on_another_backend(host, monkeypatch):
    """P10: volumes made of a volume, their present owner being any, and one made of its snapshot.

    The snapshot must go before the move.
    """
    others = host.folder / "others"
    host.opts["storage"]["backends"]["other"] = {**host.opts["storage"]["backends"]["local"], "file_driver_path": str(others)}
    host.opts["storage"]["default_backend"] = "local"
    of = {"a": {"volume": "data"}, "given": {"volume": "data"}, "c": {"snapshot": "cut"}, "d": {"volume": "a"}}
    ok(host.state("present", size=1))
    ok(host.state("snapshot_present", "cut"))
    for name, source in of.items():
        ok(host.state("present", name, size=1, source=source))
    ok(host.state("snapshot_absent", "cut"))
    catalog = host.service.catalog
    before = {name: catalog.volume("web1", name) for name in of}
    host.service.transfers.give(owner="web1", name="given", new_owner="db1")

    # Their content does not matter here.
    monkeypatch.setattr(copying, "copy", lambda source, target: "")
    monkeypatch.setattr(copying, "verify", lambda source, target, checksum: None)
    host.service.moves.migrate(owner="web1", name="data", backend="other")

    host.service.transfers.give(owner="db1", name="given", new_owner="web1")
    assert len(os.listdir(others)) == 1
    for test in (True, False):
        for name, source in of.items():
            done = host.state("present", name, test=test, size=1, source=source)
            assert (done["result"], done["changes"]) == (True, {}), done
    assert before["d"] == catalog.volume("web1", "d"), "made of one that did not move"
    assert before["c"] == catalog.volume("web1", "c"), "made of a snapshot"
    # Another one of its name is still another one.
    ok(host.state("absent"))
    assert ok(host.state("present", "a", size=1, source=of["a"]))["changes"] == {}
    ok(host.state("present", size=1))
    refused = host.state("present", "a", size=1, source=of["a"])
    assert (refused["result"], "source" in refused["comment"]) == (False, True), refused


def test_p10_a_copy_of_a_renamed_source(host):
    """Row P10: it is a copy of the same source under its new name.

    By the former name, which now means another volume, it is not.
    """
    ok(host.state("present", size=1))
    ok(host.state("present", "copy", size=1, source={"volume": "data"}))
    host.service.transfers.give(owner="web1", name="data", new_owner="web1", new_name="old")
    for name in ("old", "data"):
        done = host.state("present", "copy", size=1, source={"volume": name})
        assert (done["result"], done["changes"]) == (True, {}), (name, done)
    ok(host.state("present", size=1))
    refused = host.state("present", "copy", size=1, source={"volume": "data"})
    assert (refused["result"], "source" in refused["comment"]) == (False, True), refused
    assert ok(host.state("present", "copy", size=1, source={"volume": "old"}))["changes"] == {}


def test_p10_each_other_source_has_a_message_of_its_own(host):
    """Row P10: another source: the source of its source, one made anew under its name, or none."""
    for name, given in {"data": {}, "a": {"source": {"volume": "data"}}, "b": {"source": {"volume": "a"}}}.items():
        ok(host.state("present", name, size=1, **given))
    refused(
        host.state("present", "b", size=1, source={"volume": "data"}),
        "ALREADY_EXISTS",
        "it is a copy of volume 'a', asked for is a copy of volume 'data'",
    )
    refused(host.state("present", size=1, source={"volume": "a"}), "ALREADY_EXISTS", "it was made empty, asked for is a copy of volume 'a'")
    former = host.flow.inventory().volume("web1", "data").id
    ok(host.state("absent"))
    ok(host.state("present", size=1))
    present = host.flow.inventory().volume("web1", "data").id
    refused(
        host.state("present", "a", size=1, source={"volume": "data"}),
        "ALREADY_EXISTS",
        f"an earlier volume of the name 'data' (id {former})",
        f"the name now (id {present}) is another one",
    )
