"""Publishing an event to one minion, from the master."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import salt.client
from salt.exceptions import SaltException

log = logging.getLogger(__name__)


class Publisher:
    """Fires events on the local bus of one minion each, through a job of ``event.fire`` that nobody waits for.

    :param opts: the master's options.
    """

    def __init__(self, opts: Mapping[str, Any]) -> None:
        self._client = salt.client.LocalClient(mopts=opts)

    def __call__(self, minion: str, tag: str, data: dict[str, str]) -> bool:
        """Fire ``data`` under ``tag`` on the bus of ``minion`` and return whether the master took it.

        Nothing is raised: when the master is restarting, say, the minion asks again.
        """
        try:
            # nocache: answers are of no use to anyone in the job cache, and would crowd it.
            sent = self._client.pub([minion], "event.fire", [data, tag], tgt_type="list", timeout=10, nocache=True)
        except (SaltException, OSError, TimeoutError) as exc:
            log.warning("storage: a reply to minion %s could not be published (%s); it is sent again when it asks again", minion, exc)
            return False
        return bool(sent)

    def close(self) -> None:
        """Free the sockets."""
        self._client.destroy()
