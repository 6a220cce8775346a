"""Publishes an event to one minion, from the master."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from typing import Any

import salt.channel.client
import salt.client
import salt.utils.network
from salt.exceptions import SaltException

log = logging.getLogger(__name__)

#: How long the master may take to accept a job, seconds.
TIMEOUT = 10


class Publisher:
    """Fires events on the local bus of one minion each, through a job of ``event.fire`` that
    nobody waits for.

    ``LocalClient.pub`` makes a new channel to the master for every job, which costs as much as the
    job itself; so each thread keeps one, and falls back to ``pub`` when the master does not take
    the job that way.

    :param opts: the master's options.
    """

    def __init__(self, opts: Mapping[str, Any]) -> None:
        self._opts = dict(opts)
        self._uri = f"tcp://{salt.utils.network.ip_bracket(opts['interface'])}:{opts['ret_port']}"
        self._client = salt.client.LocalClient(mopts=self._opts)
        self._own = threading.local()

    def __call__(self, minion: str, tag: str, data: dict[str, str]) -> bool:
        """Fire ``data`` under ``tag`` on the bus of ``minion`` and return whether the master took
        it.

        Nothing is raised: when the master is restarting, say, the minion asks again.
        """
        try:
            if self._sent([minion], [data, tag]):
                return True
            return bool(self._client.pub([minion], "event.fire", [data, tag], tgt_type="list", timeout=TIMEOUT))
        except (SaltException, OSError, TimeoutError) as exc:
            self.close_thread()
            log.warning(
                "storage: a reply to minion %s could not be published (%s); it is sent when asked for again", minion, type(exc).__name__
            )
            return False

    def close_thread(self) -> None:
        """Free the channel of the calling thread."""
        channel = self._own.__dict__.pop("channel", None)
        if channel is not None:
            channel.close()

    def close(self) -> None:
        """Free what all threads share."""
        self._client.destroy()

    def _sent(self, minions: list[str], arguments: list[Any]) -> bool:
        channel = getattr(self._own, "channel", None)
        if channel is None:
            channel = self._own.channel = salt.channel.client.ReqChannel.factory(self._opts, crypt="clear", master_uri=self._uri)
        load = {
            "cmd": "publish",
            "tgt": minions,
            "tgt_type": "list",
            "fun": "event.fire",
            "arg": arguments,
            "key": self._client.key,
            "user": self._client.salt_user,
            "ret": "",
            "jid": "",
        }
        answer = channel.send(load, timeout=TIMEOUT, tries=1)
        found = answer.get("load") if isinstance(answer, dict) else None
        return isinstance(found, dict) and bool(found.get("jid"))
