"""The lab's network: two bridges, so that storage has two paths, and a tap device on each for
every guest.

All of it is in the namespace that ``run.sh`` made.
"""

from __future__ import annotations

import functools
import os
import subprocess

#: The first network carries Salt and storage, the second only storage.
NETWORKS = ("10.77.0", "10.77.1")
#: Addresses of the machine outside of the guests.
OUTSIDE = tuple(f"{network}.1" for network in NETWORKS)
PREFIX = 24
#: Name of the run, by which ``leftovers.py`` would know its devices.
RUN = os.environ.get("LAB_RUN", "lab")


def ip(*args: str) -> None:
    """Run ``ip``."""
    subprocess.run(["ip", *args], check=True)


@functools.cache
def make() -> None:
    """Make the bridges; once is enough."""
    for number, address in enumerate(OUTSIDE):
        bridge = f"lab{number}"
        ip("link", "add", bridge, "type", "bridge")
        ip("address", "add", f"{address}/{PREFIX}", "dev", bridge)
        ip("link", "set", bridge, "alias", RUN, "up")
        _no_offloads(bridge)


def add_taps(guest: str) -> list[str]:
    """Make a guest's tap device on each bridge and return their names."""
    names = []
    for number in range(len(NETWORKS)):
        name = f"{guest}-{number}"
        ip("tuntap", "add", name, "mode", "tap")
        ip("link", "set", name, "alias", RUN, "master", f"lab{number}", "up")
        # With offloads, TCP from the machine to a guest stalls.
        _no_offloads(name)
        names.append(name)
    return names


def set_path(guest: str, number: int, *, up: bool) -> None:
    """Cut a guest's path to the storage, or let it come back: whether its tap device is on the
    bridge.

    A guest's network driver does not come back from a tap device that was down.
    """
    ip("link", "set", f"{guest}-{number}", *(("master", f"lab{number}") if up else ("nomaster",)))


def _no_offloads(device: str) -> None:
    args = [word for feature in ("tso", "gso", "gro", "tx", "rx") for word in (feature, "off")]
    subprocess.run(["ethtool", "-K", device, *args], check=False, capture_output=True)
