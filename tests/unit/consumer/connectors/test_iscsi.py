"""Deleted node records are restored; the lab shows it with real sessions."""

from __future__ import annotations

from saltstorage.consumer.connectors import iscsi
from saltstorage.consumer.host import commands

IQN = "iqn.2010-10.org.openstack:volume-1"


def tool(folder, monkeypatch, sessions, nodes):
    """Put a program in the place of ``iscsiadm``, since this kernel has no sessions.

    :returns: a function that returns the program's calls.
    """
    path = folder / "iscsiadm"
    cases = {"-m session": sessions, "-m node": nodes}
    lines = [f"'{call}') printf '{answer}'; exit {0 if answer else 21} ;;" for call, answer in cases.items()]
    path.write_text("\n".join(["#!/bin/sh", f'echo "$*" >> {folder}/calls', 'case "$*" in', *lines, "esac"]) + "\n")
    path.chmod(0o755)
    monkeypatch.setattr(commands, "SEARCH", f"{folder}:/usr/bin:/bin")
    return lambda: [line for line in (folder / "calls").read_text().splitlines() if "-o" in line]


def test_a_missing_node_record_is_restored(tmp_path, monkeypatch):
    others = f"tcp: [5] 10.0.0.1:3260,1 {IQN}0 (non-flash)\\n"
    sessions = f"tcp: [3] 10.0.0.1:3260,1 {IQN} (non-flash)\\ntcp: [4] [fd00::1]:3260,-1 {IQN} (non-flash)\\n{others}"
    made = tool(tmp_path, monkeypatch, sessions, f"10.0.0.1:3260,1 {IQN}\\n")
    iscsi.restore_node_records({"target_iqn": IQN})
    assert made() == [f"-m node -T {IQN} -p [fd00::1]:3260 -o new"]


def test_the_node_records_of_all_targets_are_restored(tmp_path, monkeypatch):
    made = tool(tmp_path, monkeypatch, f"tcp: [3] 10.0.0.1:3260,1 {IQN}a (non-flash)\\n", "")
    iscsi.restore_node_records({"target_iqn": IQN, "target_iqns": [IQN, IQN + "a"]})
    assert made() == [f"-m node -T {IQN}a -p 10.0.0.1:3260 -o new"]


def test_without_sessions_or_iscsi_nothing_is_restored(tmp_path, monkeypatch):
    made = tool(tmp_path, monkeypatch, "", "")
    iscsi.restore_node_records({"target_iqn": IQN})
    assert made() == []
    monkeypatch.setattr(commands, "SEARCH", str(tmp_path / "none"))
    iscsi.restore_node_records({"target_iqn": IQN})


def test_the_login_at_boot_is_left_to_the_attachment_records(tmp_path, monkeypatch):
    """Row R4: os-brick asks open-iscsi to log in at boot to each target that was ever attached."""
    told = tool(tmp_path, monkeypatch, "", "")
    iscsi.disable_login_at_boot({"target_iqn": IQN, "target_iqns": [IQN, IQN + "a"]})
    assert told() == [f"-m node -T {target} -o update -n node.startup -v manual" for target in (IQN, IQN + "a")]


def test_a_node_record_that_cannot_be_changed_does_not_stop_attaching(tmp_path, monkeypatch, caplog):
    (tmp_path / "iscsiadm").write_text("#!/bin/sh\necho no database >&2; exit 6\n")
    (tmp_path / "iscsiadm").chmod(0o755)
    monkeypatch.setattr(commands, "SEARCH", f"{tmp_path}:/usr/bin:/bin")
    iscsi.disable_login_at_boot({"target_iqn": IQN})
    assert "no database" in caplog.text
