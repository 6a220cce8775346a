"""What the scenarios do and look at on a consumer."""

from __future__ import annotations

import json
import re
from typing import Any

from .guest import BIN, CHECKOUT, Guest, LabError, wait_for

#: Exit codes of ``iscsiadm --login`` when the target says no: for this initiator it is not there, or not with these credentials.
LOGIN_REFUSED = (19, 24)


def record(guest: Guest, volume: str = "data") -> dict[str, Any]:
    """Return the attachment record of a volume, secrets included."""
    found: dict[str, Any] = json.loads(guest.run(f"cat /var/lib/salt-storage/minion/attachments/*-{volume}.json"))
    return found


def assert_nothing_attached(guest: Guest) -> None:
    """Check that no session, node record, disk, map, link, mount or table entry is left."""
    assert "No active sessions" in guest.ran("iscsiadm -m session").output
    assert "No records found" in guest.ran("iscsiadm -m node").output
    assert disks(guest) == {}
    assert guest.run("ls /dev/storage 2>/dev/null || true").strip() == ""
    assert "/srv/" not in guest.run("cat /proc/mounts /etc/fstab")


def disks(guest: Guest) -> dict[str, int]:
    """Return the sizes, in bytes, of the block devices that came from outside, by kernel name; maps over them included."""
    found = {}
    for line in guest.run("lsblk --bytes --list --noheadings --output NAME,SIZE,TYPE").splitlines():
        name, size, kind = line.split()
        if not name.startswith(("ubd", "nbd", "ram")) and kind != "loop":
            found[name] = int(size)
    return found


def active_paths(guest: Guest) -> int:
    """Return how many paths the kernel uses, over all multipath devices; what it says is true at any moment, a checker's word is not."""
    return len(re.findall(r" \d+:\d+ A ", guest.run("dmsetup status --target multipath")))


class Writing:
    """A file that is being written in a guest, slowly, and synced all the way.

    :param path: of the file.
    :param mib: its size in the end.
    """

    def __init__(self, guest: Guest, path: str, mib: int) -> None:
        self.guest = guest
        self.path = path
        self.result = f"/root/{path.replace('/', '_')}.sum"
        self.log = f"{self.result}.log"
        command = f"{BIN}/python -S {CHECKOUT}/tests/lab/writer.py {path} {mib} {self.result}"
        # The log's first line is the writer's exit code, once it has ended.
        ended = f"{command} >{self.log}.new 2>&1; (echo $?; cat {self.log}.new) >{self.log}"
        guest.run(f"rm -f {self.result} {self.log}; setsid nohup sh -c '{ended}' >/dev/null 2>&1 </dev/null &")

    def wait_for_some(self, mib: int) -> None:
        """Return when this much is written, MiB."""
        size = f"stat -c %s {self.path} 2>/dev/null || echo 0"
        wait_for(lambda: int(self.guest.run(size)) >> 20 >= mib, f"{mib} MiB of {self.path}", 60)

    @property
    def done(self) -> bool:
        """Whether all is written.

        :raises LabError: the writer ended before.
        """
        # In this order: the result is there before the log.
        found = self.guest.ran(f"cat {self.log} 2>/dev/null; test -e {self.result} && echo done").output
        if found and not found.endswith("done\n"):
            raise LabError(f"the writer of {self.path} ended: {found}")
        return bool(found)

    def _why(self) -> str:
        """Return what the kernel and the initiator said lately."""
        return self.guest.run("dmesg | tail -n 30; journalctl --no-pager --unit iscsid --lines 30; iscsiadm -m session -P 1; true")

    def finish(self, timeout: float = 240) -> None:
        """Wait until all is written, and check it as it is on the disk."""
        try:
            wait_for(lambda: self.done, f"{self.path} to be written", timeout)
        except LabError as error:
            raise LabError(f"{self.guest.name}: {error}\n{self._why()}") from None
        self.guest.run("echo 3 >/proc/sys/vm/drop_caches")
        assert self.guest.run(f"sha256sum {self.path}").split()[0] == self.guest.run(f"cat {self.result}").strip()
