"""The life of volumes with bare cinderlib and os-brick: one script without Salt, states, bus,
catalog, checks or records.

``python bare_lifecycle.py FOLDER COUNT``; prints seconds by step as JSON. The bridge makes
cinderlib work on current Cinder; from there on it is cinderlib's and os-brick's own interface.
The volumes are handled a step at a time, as the states are.
"""

from __future__ import annotations

import time

STARTED = time.perf_counter()

import contextlib  # noqa: E402
import fcntl  # noqa: E402
import json  # noqa: E402
import os  # noqa: E402
import sys  # noqa: E402
from collections.abc import Iterator  # noqa: E402
from pathlib import Path  # noqa: E402

LOOP_SET_FD, LOOP_CLR_FD, LOOP_CTL_GET_FREE = 0x4C00, 0x4C01, 0x4C82
DRIVER = "saltstorage.drivers.file.FileDriver"

took: dict[str, float] = {}


@contextlib.contextmanager
def step(name: str) -> Iterator[None]:
    """Add the time that the block takes to ``name``."""
    start = time.perf_counter()
    yield
    took[name] = took.get(name, 0.0) + time.perf_counter() - start


def attach_loop(path: str) -> str:
    """Return a loop device over a file, which os-brick's LOCAL connector hands back as it is."""
    with open("/dev/loop-control", "rb+", buffering=0) as control, open(path, "rb+", buffering=0) as file:
        while True:
            device = f"/dev/loop{fcntl.ioctl(control, LOOP_CTL_GET_FREE)}"
            with contextlib.suppress(BlockingIOError, OSError), open(device, "rb+", buffering=0) as loop:
                fcntl.ioctl(loop, LOOP_SET_FD, file.fileno())
                return device


def detach_loop(device: str) -> None:
    """Let a loop device go of its file."""
    with open(device, "rb", buffering=0) as loop:
        fcntl.ioctl(loop, LOOP_CLR_FD, 0)


def main(folder: str, count: int) -> None:
    """Create, connect, disconnect and delete ``count`` volumes of 1 GiB."""
    with step("import"):
        from saltstorage.controller.cinder import bridge

        bridge.load()
        from os_brick.initiator import connector
    with step("load the driver"):
        backend_class = bridge.setup(f"sqlite:///{folder}/cinderlib.sqlite", folder)
        with bridge.quiet(), bridge.fake_packages():
            backend = backend_class("bare", volume_driver=DRIVER, file_driver_path=str(Path(folder, "volumes")))
    with step("connector properties"):
        properties = connector.get_connector_properties("", None, False, False)
    began = time.perf_counter()
    with step("create"):
        volumes = [backend.create_volume(size=1, name=f"volume-{number}") for number in range(count)]
    connections = []
    with step("connect"):
        for volume in volumes:
            connection = volume.connect(properties)
            initiator = connector.InitiatorConnector.factory(connection.protocol, "")
            found = initiator.connect_volume(connection.conn_info["data"])
            connections.append((volume, connection, initiator, found, attach_loop(found["path"])))
    with step("disconnect"):
        for volume, connection, initiator, found, device in connections:
            detach_loop(device)
            initiator.disconnect_volume(connection.conn_info["data"], found)
            volume.disconnect(connection)
    with step("delete"):
        for volume in volumes:
            volume.delete()
    ended = time.perf_counter()
    print(json.dumps({"steps": took, "work": ended - began, "script": ended - STARTED}))


if __name__ == "__main__":
    os.umask(0o077)
    main(sys.argv[1], int(sys.argv[2]))
