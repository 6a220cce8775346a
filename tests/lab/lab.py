"""The lab as the scenarios use it: a controller outside, and consumers in guests."""

from __future__ import annotations

import contextlib
import subprocess
from pathlib import Path
from typing import Any

from . import network
from .controller import Controller
from .guest import Guest, LabError, wait_for

#: Short, on a file system that only the lab's namespace has, and named after the run; see
#: ``leftovers.py``.
FOLDER = Path("/mnt", network.RUN)
#: File system of the file driver's volumes: XFS, which copies a volume that is in use at one
#: moment.
VOLUMES_GIB = 20


class Lab:
    """A controller with a small site's SAN on one machine, and the consumers ``db1`` (single
    path) and ``db2`` (multipath).

    :ivar volumes: folder of the SAN's volumes.
    """

    def __init__(self) -> None:
        self.volumes = FOLDER / "volumes"
        self.tgtd: subprocess.Popen[bytes] | None = None
        self.guests: dict[str, Guest] = {}
        network.make()
        self._mount_volumes()
        san = {
            "volume_driver": "saltstorage.drivers.file_iscsi.FileISCSIDriver",
            "file_driver_path": str(self.volumes),
            "target_ip_address": network.OUTSIDE[0],
            "target_secondary_ip_addresses": [network.OUTSIDE[1]],
        }
        self.controller = Controller(FOLDER / "c", {"san": san}, policy={"*": {"shared": ["failover"]}})

    def start(self) -> None:
        """Start all and return when both consumers are ready to attach, prepared by the formula's
        own SLS.
        """
        # The pillar of both names multipath; one is told otherwise.
        for name, number, own in (("db1", 11, {"multipath": False}), ("db2", 12, {})):
            guest = self.guest(name, number)
            guest.minion({"master": network.OUTSIDE[0], "storage": {"consumer": {**own, "answer_timeout": 60}}})
            guest.start()
        self.start_tgtd()
        self.controller.start(sync=True)
        guests = list(self.guests.values())
        for guest in guests:
            guest.wait()
        self.controller.wait_for_minions(guests)
        self.volumes_pillar({})
        self.controller.jobs(guests, "saltutil.sync_all")
        for name, result in self.controller.jobs(guests, "state.apply", "storage.consumer").items():
            failed(name, result)

    def guest(self, name: str, number: int, **kwargs: Any) -> Guest:
        """Add a guest that is off.

        :param number: last part of its addresses, from 11 on.
        """
        folder = FOLDER / name
        folder.mkdir(parents=True)
        guest = self.guests[name] = Guest(name, number, folder, **kwargs)
        return guest

    def start_tgtd(self, *, listen: bool = True) -> None:
        """Start the SAN's iSCSI daemon and return when it answers.

        :param listen: hosts can reach it; else see :meth:`listen`.
        """
        self.tgtd = start_tgtd(FOLDER / "c" / "tgtd.out")
        if listen:
            self.listen()

    def listen(self) -> None:
        """Let hosts reach the iSCSI daemon: after a restart once the targets are there, as
        docs/how-to/san.rst has it and says why.
        """
        listen()

    def stop_tgtd(self) -> None:
        """Let the iSCSI daemon die, with all that it exports."""
        if self.tgtd is not None:
            self.tgtd.kill()
            self.tgtd.wait()
            self.tgtd = None

    @property
    def consumers(self) -> list[Guest]:
        """The consumers ``db1`` and ``db2``."""
        return [self.guests["db1"], self.guests["db2"]]

    def apply(self, volumes: dict[str, Any]) -> None:
        """Give all minions these volumes by pillar, and apply it on both consumers.

        :raises LabError: a state failed.
        """
        self.volumes_pillar(volumes)
        self.apply_again()

    def apply_again(self) -> dict[str, Any]:
        """Apply the pillar as it is on both consumers, and return the changes, by host and state.

        :raises LabError: a state failed.
        """
        changes = {}
        for name, result in self.controller.jobs(self.consumers, "state.apply", "storage.volumes").items():
            failed(name, result)
            changes.update({(name, entry["__id__"]): entry["changes"] for entry in result.values() if entry["changes"]})
        return changes

    def volumes_pillar(self, volumes: dict[str, Any]) -> None:
        """Write the pillar of all minions: these volumes, and the protocols of the hosts."""
        self.controller.pillar({"consumer": {"protocols": ["iscsi", "multipath"]}, "volumes": volumes})

    def files(self) -> list[str]:
        """Return the names of the SAN's volumes and snapshots."""
        return sorted(path.name for path in self.volumes.iterdir())

    def targets(self) -> list[str]:
        """Return the names of the targets that the SAN exports."""
        done = subprocess.run(["tgtadm", "--op", "show", "--mode", "target"], capture_output=True, text=True, check=True)
        return [line.split(": ")[1] for line in done.stdout.splitlines() if line.startswith("Target ")]

    def stop(self) -> None:
        """Stop everything."""
        for guest in self.guests.values():
            guest.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.controller.stop()
        self.stop_tgtd()

    def save_logs(self, folder: Path) -> None:
        """Keep the logs of all hosts in one folder."""
        for name, guest in self.guests.items():
            guest.save_logs(folder / name)
        self.controller.save_logs(folder / "controller")

    def _mount_volumes(self) -> None:
        image = FOLDER / "volumes.xfs"
        self.volumes.mkdir(parents=True)
        with image.open("wb") as file:
            file.truncate(VOLUMES_GIB * 2**30)
        subprocess.run(["mkfs.xfs", "-q", str(image)], check=True)
        mount_file(image, self.volumes)
        self.volumes.chmod(0o700)


def tgtd_answers() -> bool:
    """Return whether an iSCSI daemon runs in the lab's namespace; there can be one."""
    return subprocess.run(["tgtadm", "--op", "show", "--mode", "sys"], capture_output=True, check=False).returncode == 0


def start_tgtd(log: Path) -> subprocess.Popen[bytes]:
    """Start an iSCSI daemon that no host reaches yet, and return when it answers."""
    Path("/run/tgtd").mkdir(exist_ok=True)
    with log.open("ab") as out:
        process = subprocess.Popen(
            ["tgtd", "-f", "--iscsi", "portal=127.0.0.1:3261"], stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
        )
    wait_for(tgtd_answers, "tgtd", 20)
    return process


def listen() -> None:
    """Let hosts reach the iSCSI daemon."""
    subprocess.run(["tgtadm", "--lld", "iscsi", "--mode", "portal", "--op", "new", "--param", "portal=0.0.0.0:3260"], check=True)


def mount_file(image: Path, folder: Path) -> None:
    """Mount the file system in a file; the loop device goes with the mount, and the mount with
    the namespace.
    """
    done = subprocess.run(["losetup", "--find", "--show", str(image)], capture_output=True, text=True, check=True)
    device = done.stdout.strip()
    try:
        # The last user of this device may have left it read-only, which outlives its file; mount
        # would then mount read-only.
        subprocess.run(["blockdev", "--setrw", device], check=True)
        subprocess.run(["mount", device, str(folder)], check=True)
    finally:
        # While it is mounted, this only marks it to go with the mount.
        subprocess.run(["losetup", "--detach", device], check=True)


def failed(who: str, result: Any) -> None:
    """Raise when a return of ``state.apply`` shows anything that went wrong.

    :raises LabError: with the comments of what failed.
    """
    if not isinstance(result, dict):
        raise LabError(f"state.apply on {who}: {result}")
    wrong = {entry["__id__"]: entry["comment"] for entry in result.values() if not entry["result"]}
    if wrong:
        raise LabError(f"state.apply on {who}: {wrong}")
