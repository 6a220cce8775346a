"""A minion without a master: the consumer's flow and the states over the real file driver, in this process."""

from __future__ import annotations

import os
import subprocess

import pytest

from saltstorage.flow.flow import Flow
from saltstorage.plans import attachment, mount, skeleton, snapshot, volume
from saltstorage.plans.absent import absent
from saltstorage.plans.extended import extended
from saltstorage.plans.mount import Mount
from saltstorage.plans.request import Request
from saltstorage.spec import VolumeSpec
from tests.unit.plans.faulty_driver import FaultyDriver


class Host:
    """One minion. Several of them share one controller's catalog and backend."""

    def __init__(self, root, minion, metadata_dir, driver="saltstorage.drivers.file.FileDriver", volumes=None, **opts):
        self.root = root
        self.folder = root / minion
        self.mount_point = str(self.folder / "srv")
        self.opts = {
            "id": minion,
            "file_client": "local",
            "storage": {
                "state_dir": str(root / "controller"),
                "metadata_database": f"sqlite:///{metadata_dir}/cinderlib.sqlite",
                "policy": {"*": {"shared": ["*"]}},
                "backends": {
                    "local": {
                        "volume_driver": driver,
                        "file_driver_path": str(volumes or root / "volumes"),
                    }
                },
                "consumer": {
                    "state_dir": str(self.folder / "state"),
                    "device_dir": str(self.folder / "dev"),
                    "fstab": str(self.folder / "fstab"),
                    "lock_path": str(root / "brick"),
                    # The derivation of keys is slow on purpose, and not what is tested.
                    "luks_format_options": ["--pbkdf=pbkdf2", "--pbkdf-force-iterations=1000"],
                },
            },
            **opts,
        }
        self.folder.mkdir()
        self.context = {}
        self.runs = 0

    @property
    def flow(self):
        """A flow as of a new run of states."""
        self.runs += 1
        return Flow(self.opts, self.context, str(self.runs))

    def close(self):
        kept = self.context.get("saltstorage.bus.service")
        if kept:
            kept[1].close()

    def state(self, function, name="data", *, test=False, **given):
        flow = self.flow

        def plan():
            if function == "present":
                return volume.present(flow, name, given.get("owner"), VolumeSpec.decode(given))
            if function == "absent":
                return absent(flow, name, **{"owner": None, **given})
            if function == "disconnected":
                return attachment.disconnected(flow, name, given.get("owner"), False)
            if function == "extended":
                return extended(flow, name, given.get("size"), given.get("exact", False), given.get("owner"))
            if function.startswith("snapshot_"):
                return self._snapshot(flow, function, name, {"volume": "data", "freeze": False, "timeout": 60, **given})
            if function == "unmounted":
                return mount.unmounted(flow, name, given.get("owner"))
            request = Request(
                flow,
                name,
                given.get("owner"),
                given.get("read_only", False),
                wanted=VolumeSpec.decode_optional(given),
                mounts=function == "mounted",
                **{key: given[key] for key in ("resize", "encrypted", "passphrase") if key in given},
            )
            if function == "connected":
                return attachment.connected(flow, request, test)
            wanted = Mount(given.get("mount", self.mount_point), given.get("fstype", "xfs"), None, given.get("options", "defaults"))
            return mount.mounted(flow, request, wanted, test)

        return skeleton.run(name, test, plan, {}, lambda name: None)

    @staticmethod
    def _snapshot(flow, function, name, given):
        if function == "snapshot_absent":
            return snapshot.absent(flow, name)
        common = (given["freeze"], given["timeout"])
        if function == "snapshot_present":
            return snapshot.present(flow, name, given["volume"], *common)
        return snapshot.rotated(flow, name, given["volume"], given.get("keep", 7), given.get("every", "1d"), *common)

    @property
    def service(self):
        """The controller in this process."""
        self.flow.controller.call("inventory", {})
        return self.context["saltstorage.bus.service"][1]

    def mounted(self, **given):
        return self.state("mounted", **{"size": 1, **given})


@pytest.fixture
def hosts(short_dir, metadata_dir):
    """A function that makes minions over one backend; at the end nothing of them is left."""
    made = []

    def make(minion="web1", **options):
        made.append(Host(short_dir, minion, metadata_dir, **options))
        return made[-1]

    yield make
    with open("/proc/mounts") as file:
        mounts = [line.split()[1] for line in file if str(short_dir) in line]
    for path in reversed(mounts):
        subprocess.run(["umount", path], check=True)
    for host in made:
        for owner in (None, "shared"):
            host.state("disconnected", owner=owner)
        host.close()
    listed = subprocess.run(["losetup", "--list", "--noheadings", "--output", "NAME,BACK-FILE"], capture_output=True, text=True, check=True)
    left = [line for line in listed.stdout.splitlines() if str(short_dir) in line]
    for line in left:
        subprocess.run(["losetup", "--detach", line.split()[0]], check=True)
    assert left == []


@pytest.fixture
def shared_blocks(tmp_path):
    """A directory whose file system copies a file at one moment, so that volumes in use can have snapshots."""
    image, folder = tmp_path / "blocks", tmp_path / "blocks.mounted"
    image.touch()
    os.truncate(image, 8 << 30)
    folder.mkdir()
    subprocess.run(["mkfs.xfs", "-q", "-m", "reflink=1", str(image)], check=True)
    device = subprocess.run(["losetup", "--find", "--show", str(image)], check=True, capture_output=True, text=True).stdout.strip()
    try:
        # It may have been for reading only when someone else had it.
        subprocess.run(["blockdev", "--setrw", device], check=True)
        subprocess.run(["mount", device, str(folder)], check=True)
        (folder / "volumes").mkdir(mode=0o700)
        yield folder / "volumes"
        subprocess.run(["umount", str(folder)], check=True)
    finally:
        subprocess.run(["losetup", "--detach", device], check=True)


@pytest.fixture
def hooks():
    """What the faulty driver does; see there."""
    yield FaultyDriver.hooks
    FaultyDriver.hooks.clear()


@pytest.fixture
def faulty(shared_blocks, hooks, hosts):
    """A minion whose backend does what ``hooks`` say."""
    return hosts(driver=f"{FaultyDriver.__module__}.{FaultyDriver.__name__}", volumes=shared_blocks)


@pytest.fixture
def host(hosts):
    return hosts()
