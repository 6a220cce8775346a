"""Actions and observations of the scenarios on a consumer."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from .guest import BIN, CHECKOUT, Guest, LabError, wait_for
from .qemu import QemuGuest

#: Exit codes of ``iscsiadm --login`` when the target says no: for this initiator it is not there,
#: or not with these credentials.
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
    """Return the sizes, in bytes, of the block devices that came from outside, by kernel name;
    maps over them included.
    """
    found = {}
    for line in guest.run("lsblk --bytes --list --noheadings --output NAME,SIZE,TYPE").splitlines():
        name, size, kind = line.split()
        if not name.startswith(("ubd", "nbd", "ram")) and kind != "loop":
            found[name] = int(size)
    return found


def active_paths(guest: Guest) -> int:
    """Return how many paths the kernel uses, over all multipath devices; the kernel's word is true
    at any moment, a checker's is not.
    """
    return len(re.findall(r" \d+:\d+ A ", guest.run("dmsetup status --target multipath")))


class Writing:
    """A file that is being written in a guest, block after block and each to the disk, until it
    is told to end; see ``writer.py``.

    :param path: of the file.
    """

    def __init__(self, guest: Guest | QemuGuest, path: str) -> None:
        self.guest = guest
        self.path = path
        self._state = f"/run/{path.strip('/').replace('/', '-')}"
        writer = f"{BIN}/python -S {CHECKOUT}/tests/lab/writer.py {path} {self._state} >{self._state}.log 2>&1; echo $? >{self._state}.code"
        guest.run(f"rm -f {self._state}.*; setsid nohup sh -c '{writer}' >/dev/null 2>&1 </dev/null &")

    @property
    def blocks(self) -> int:
        """How many blocks are on the disk.

        :raises LabError: the writer ended.
        """
        ended = f"if [ -e {self._state}.code ]; then cat {self._state}.log; exit 1; fi"
        return int(self.guest.run(f"{ended}; cat {self._state}.blocks 2>/dev/null || true").strip() or 0)

    def goes_on(self, timeout: float = 240) -> None:
        """Return when a block is on the disk that was not begun before this was called.

        :raises LabError: none was within ``timeout`` seconds, or the writer ended.
        """
        # The next one may have been begun; the one after it was not.
        enough = self.blocks + 2
        self._wait(lambda: self.blocks >= enough, f"{self.path} to be written to", timeout)

    def end(self) -> None:
        """Tell the writer to end."""
        self.guest.run(f"touch {self._state}.end")

    def finish(self, timeout: float = 240) -> None:
        """Let the writer end, and compare its data with the disk."""
        self.end()
        self._wait(lambda: self.guest.ran(f"test -e {self._state}.code").code == 0, f"the writer of {self.path} to end", timeout)
        wrote = self.guest.run(f"cat {self._state}.log; cat {self._state}.sum").strip()
        self.guest.run("sync; echo 3 >/proc/sys/vm/drop_caches")
        assert self.guest.run(f"sha256sum {self.path}").split()[0] == wrote

    def _wait(self, condition: Callable[[], bool], what: str, timeout: float) -> None:
        try:
            wait_for(condition, what, timeout)
        except LabError as error:
            # The latest messages of the kernel and the initiator.
            why = "dmesg | tail -n 30; journalctl --no-pager --unit iscsid --lines 30; iscsiadm -m session -P 1; true"
            raise LabError(f"{self.guest.name}: {error}\n{self.guest.run(why)}") from None


@contextmanager
def writing(*files: tuple[Guest | QemuGuest, str]) -> Iterator[list[Writing]]:
    """Write files while something happens: each was written to before it and is after it, without
    an error, and its data is right.

    :param files: guest, and path in it.
    """
    writers = [Writing(guest, path) for guest, path in files]
    try:
        for writer in writers:
            writer.goes_on()
        yield writers
        for writer in writers:
            writer.goes_on()
    except BaseException:
        for writer in writers:
            with suppress(LabError, OSError):
                writer.end()
        raise
    for writer in writers:
        writer.finish()
