"""The part of :mod:`.lio` that needs root, a program of its own: reads one request as JSON, and
writes the answer if there is one.

Cinder's ``cinder-rtstool`` does most of this, but takes secrets as arguments, leaves the target
visible to every host (``demo_mode_discovery``), and gives a new World Wide Name to a volume each
time it is exported.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    # PYTHONPATH need not be set; and this folder has modules with the names of others.
    sys.path[0] = str(Path(__file__).resolve().parents[3])

from saltstorage.consumer.devices import loop

#: Marks the loop devices below targets, as the consumer marks its own.
TAG = "salt-storage:lio"
_CLOSED = {"authentication": "1", "generate_node_acls": "0", "demo_mode_discovery": "0"}


def expose(request: Mapping[str, Any]) -> None:
    """Make a target over the device, or over a loop device over the file, open to the named
    initiators alone.

    A loop device can grow: the kernel's own file back end keeps the size that it began with.
    """
    import rtslib_fb as rtslib

    device = loop.attach(request["path"], TAG) if Path(request["path"]).is_file() else request["path"]
    store = _store(request["volume"])
    if store is not None and store.udev_path != device:  # The remains of a lost loop device.
        _remove(request)
        store = None
    if store is None:
        store = rtslib.BlockStorageObject(request["volume"], dev=device, wwn=request["serial"])
        with contextlib.suppress(rtslib.RTSLibError):  # The disk below cannot discard.
            store.set_attribute("emulate_tpu", "1")
    tpg = rtslib.TPG(rtslib.Target(rtslib.FabricModule("iscsi"), request["name"]), 1)
    for attribute, value in _CLOSED.items():
        tpg.set_attribute(attribute, value)
    lun = next(iter(tpg.luns), None) or rtslib.LUN(tpg, 0, store)
    wanted = {name.lower(): name for name in request["initiators"]}
    for acl in list(tpg.node_acls):
        if acl.node_wwn.lower() not in wanted:
            acl.delete()  # ends its sessions too
    for name in wanted.values():
        acl = rtslib.NodeACL(tpg, name)
        acl.chap_userid, acl.chap_password = request["user"], request["password"]
        if not list(acl.mapped_luns):
            rtslib.MappedLUN(acl, 0, lun)
    for address in request["portals"]:
        rtslib.NetworkPortal(tpg, f"[{address}]" if ":" in address else address, request["port"])
    # Last: until then no host can log in.
    tpg.enable = True


def withdraw(request: Mapping[str, Any]) -> None:
    """Remove a target with its sessions, and its loop device, as far as they exist."""
    _remove(request)
    if Path(request["path"]).is_file():
        for found in loop.find(request["path"], TAG):
            if found.tag == TAG and not loop.detach(found.path):
                raise RuntimeError(f"{found.path} is still in use")


def grow(request: Mapping[str, Any]) -> None:
    """Have the target show the present size of the file; sessions go on."""
    if not Path(request["path"]).is_file():
        return  # the kernel asks a device each time
    for found in loop.find(request["path"], TAG):
        if found.tag == TAG:
            loop.refresh_size(found.path)


def find_lost(request: Mapping[str, Any]) -> list[str]:
    """Return the names of the targets that are missing or not enabled; change nothing and load no
    module.
    """
    import rtslib_fb as rtslib

    there = {target.wwn.lower() for target in rtslib.FabricModule("iscsi").targets if any(tpg.enable for tpg in target.tpgs)}
    return [name for name in request["names"] if name.lower() not in there]


def check(_request: Mapping[str, Any]) -> None:
    """Fail when the kernel has no LIO; load its modules when it has."""
    import rtslib_fb as rtslib

    # The kernel's database, which rtslib sets but does not make. Debian's package of rtslib has it
    # elsewhere, that of targetcli makes it.
    Path("/etc/target").mkdir(mode=0o700, exist_ok=True)
    rtslib.RTSRoot()


def _store(name: str) -> Any:
    import rtslib_fb as rtslib

    return next((found for found in rtslib.RTSRoot().storage_objects if found.plugin == "block" and found.name == name), None)


def _remove(request: Mapping[str, Any]) -> None:
    import rtslib_fb as rtslib

    for target in rtslib.RTSRoot().targets:
        if target.wwn == request["name"]:
            target.delete()
    if (store := _store(request["volume"])) is not None:
        store.delete()


OPERATIONS: Mapping[str, Callable[[Mapping[str, Any]], Any]] = {
    "expose": expose,
    "withdraw": withdraw,
    "grow": grow,
    "find_lost": find_lost,
    "check": check,
}


def main() -> int:
    """Carry out the request of standard input."""
    request = json.load(sys.stdin)
    try:
        answer = OPERATIONS[request["do"]](request)
        if answer is not None:
            json.dump(answer, sys.stdout)
    except Exception as error:
        # No traceback: it could show the request.
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
