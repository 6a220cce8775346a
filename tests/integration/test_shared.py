"""A shared volume on two minions, from pillar, with real daemons."""

from __future__ import annotations

import subprocess

import pytest

from tests.integration.cluster import write_pillar

pytestmark = [pytest.mark.root, pytest.mark.slow]


@pytest.fixture
def shared(cluster):
    """Return the name of a shared volume; at the end no minion has it and it is deleted."""
    name = "team-media"
    cluster.run("storage.create", name, owner="shared", size="1GiB")
    yield name
    for minion in cluster.minions:
        write_pillar(cluster.root, minion, {})
        sls = f"{name}:\n  storage_volume.disconnected:\n    - owner: shared\n"
        (gone,) = cluster.apply(minion, sls).values()
        assert gone["result"] is True, gone
    assert cluster.run("storage.delete", name, owner="shared")


def apply(cluster, minion, mount, **entry):
    volume = {"owner": "shared", "mount": str(mount), "fstype": "ext4", **entry}
    write_pillar(cluster.root, minion, {"storage": {"volumes": {"team-media": volume}}})
    cluster.job(minion, "saltutil.refresh_pillar", wait=True)
    (found,) = cluster.job(minion, "state.apply", "storage.volumes").values()
    return found


def test_u9_two_minions_read_what_one_wrote(cluster, shared, tmp_path):
    """Rows C5, C12, U9, R14."""
    mounts = {minion: tmp_path / minion for minion in cluster.minions}
    assert apply(cluster, "alpha", mounts["alpha"])["result"] is True
    (mounts["alpha"] / "film").write_text("kept")
    for read_only in (False, True):
        refused = apply(cluster, "beta", mounts["beta"], read_only=read_only)
        assert (refused["result"], refused["changes"]) == (False, {}), refused
        assert refused["comment"].startswith("FAILED_PRECONDITION")
        assert "alpha (mounted, writes)" in refused["comment"]
    assert not mounts["beta"].exists()

    assert apply(cluster, "alpha", mounts["alpha"], state="disconnected")["result"] is True
    for minion, mount in mounts.items():
        done = apply(cluster, minion, mount, read_only=True)
        assert done["result"] is True, done
        assert apply(cluster, minion, mount, read_only=True)["changes"] == {}
        assert (mount / "film").read_text() == "kept"
        with pytest.raises(OSError, match="Read-only"):
            (mount / "film").write_text("lost")

    assert apply(cluster, "alpha", mounts["alpha"], state="disconnected")["result"] is True
    subprocess.run(["sh", "-c", "echo 3 > /proc/sys/vm/drop_caches"], check=True)
    assert (mounts["beta"] / "film").read_text() == "kept"


def test_a_minion_may_not_delete_or_use_what_the_policy_does_not_name(cluster, shared, tmp_path):
    gone = "other:\n  storage_volume.connected:\n    - owner: shared\nteam-media:\n  storage_volume.absent:\n    - owner: shared\n"
    found = cluster.apply("alpha", gone)
    assert found["other"]["result"] is False
    assert found["other"]["comment"].startswith("PERMISSION_DENIED")
    assert found["team-media"]["result"] is False
    assert found["team-media"]["comment"].startswith("PERMISSION_DENIED")
    assert "salt-run storage.delete" in found["team-media"]["comment"]
