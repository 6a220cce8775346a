"""The child that runs os-brick for a job of Salt: ``python -m saltstorage.consumer.connectors``.

It takes calls from its parent over its standard input, a socket. It ends at once when the parent
does, also in the middle of a step, as when both were one process: a job that comes after a killed
one must not meet an os-brick that is still at work.
"""

from __future__ import annotations

import logging
import os
import sys
from typing import Any

from ...errors import InternalError
from ...ipc import calls, child
from ..host.config import ConsumerConfig
from .brick import Brick

#: The calls of the parent: methods of :class:`.Brick`.
CALLS = ("connector_properties", "connect", "disconnect", "volume_paths", "stays", "clean_up", "rescan")


class _Lines(logging.Formatter):
    """Begins each line of a record with its level and logger, for the parent's log."""

    def format(self, record: logging.LogRecord) -> str:
        return "\n".join(f"{record.levelno}:{record.name}:{line}" for line in super().format(record).splitlines())


def handle(op: str, args: dict[str, Any], step: calls.Step) -> Any:
    """Carry out one call of the parent."""
    config, level = ConsumerConfig.from_wire(args.pop("config")), args.pop("level")
    if op not in CALLS:
        raise InternalError(f"os-brick's process knows no call {op!r}")
    logging.getLogger().setLevel(level)
    return getattr(Brick(config), op)(**args)


def main() -> None:
    """Serve the parent until it closes the connection."""
    os.umask(0o022)
    output = logging.StreamHandler(sys.stderr)
    output.setFormatter(_Lines())
    logging.getLogger().addHandler(output)
    sock = child.parents()
    calls.watch(sock, lambda: os._exit(0))
    calls.serve(sock, handle, {"pid": os.getpid()})


if __name__ == "__main__":
    main()
