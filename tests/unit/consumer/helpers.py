"""Steps that several tests of the consumer share."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

from saltstorage.consumer.consumer import Consumer
from saltstorage.consumer.devices import loop, mounts
from tests import needs

GIB = 2**30
#: Valid names that break code without quotes.
HARD_NAMES = ["-rf", "a b", "'\"`$(x)", "{{ x }}", "a: b", "🐘" * 32, "x" * 128, ".hidden", "...", "ä", "a\\b", "*?[", "~", "CON"]


def needs_root() -> None:
    needs.root()
    needs.loop_devices()


def devices_below(folder: Path) -> list[loop.LoopStatus]:
    """Return the loop devices over files in a folder, also over deleted files."""
    found = []
    for directory in Path("/sys/block").glob("loop*/loop"):
        status = loop.status(f"/dev/{directory.parent.name}")
        if status is not None and status.backing_file.startswith(f"{folder}/"):
            found.append(status)
    return found


def mounts_below(folder: Path) -> list[mounts.Mount]:
    return [mount for mount in mounts.read() if mount.path.startswith(f"{folder}/")]


def volume(name: str = "data", **changes: Any) -> dict[str, Any]:
    return {"id": "11111111-1111-4111-8111-111111111111", "owner": "db1", "name": name, "backend": "local", "size": 1, **changes}


def local(file: Path) -> dict[str, Any]:
    """Return the connection information of the file driver for a volume."""
    return {"driver_volume_type": "local", "data": {"device_path": str(file), "auth_password": "geheim-4711"}}


def attach(consumer: Consumer, file: Path, name: str = "data", **changes: Any) -> Any:
    """Attach as the flow does."""
    read_only = changes.pop("read_only", False)
    consumer.intend(changes.get("owner", "db1"), name, read_only=read_only)
    return consumer.attach(volume(name, **changes), connection_id="c1", connection_info=local(file), read_only=read_only)


def drop(consumer: Consumer, name: str = "data") -> None:
    """Detach as the flow does."""
    consumer.detach(name)
    consumer.forget(name)


def mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True)
