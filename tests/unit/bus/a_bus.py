"""Serves an event bus alone, with the code of the Salt that is installed:
``python -m tests.unit.bus.a_bus master|minion CONFIG``. Runs until it is ended.
"""

from __future__ import annotations

import sys
from typing import Any

import salt.config
import salt.transport
import salt.utils.event


def main(node: str, config: str) -> None:
    opts = salt.config.master_config(config) if node == "master" else salt.config.minion_config(config)
    if hasattr(salt.transport, "ipc_publish_server"):
        _serve(node, opts)
    elif node == "master":
        salt.utils.event.EventPublisher(opts).run()
    else:
        _serve_minion_of_3006(opts)


def _serve(node: str, opts: dict[str, Any]) -> None:
    from tornado.ioloop import IOLoop

    async def start() -> None:
        await server.publisher(server.publish_payload, io_loop=IOLoop.current())

    server = salt.transport.ipc_publish_server(node, opts)
    loop = IOLoop()
    loop.add_callback(start)
    loop.start()


def _serve_minion_of_3006(opts: dict[str, Any]) -> None:
    from salt.ext.tornado.ioloop import IOLoop

    loop = IOLoop.current()
    kept = salt.utils.event.AsyncEventPublisher(opts, loop)
    try:
        loop.start()
    finally:
        kept.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
