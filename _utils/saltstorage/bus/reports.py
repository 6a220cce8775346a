"""Reports of progress on the event buses: of the controller on the master's, and of a host on its
way there.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from ..progress import Tell
from . import envelope
from .eventbus import BusLostError, EventBus
from .keys import OwnKeys

log = logging.getLogger(__name__)

#: Events on the master's bus that say how far a long operation has come; the id of the operation
#: follows.
PROGRESS_TAG = "storage/progress/"


def progress_events(opts: Mapping[str, Any]) -> Tell:
    """Return a function that fires ``storage/progress/<id>`` on the master's bus, or nothing where
    no master runs.

    :param opts: the master's options.
    """
    bus = EventBus("master", opts)

    def tell(data: dict[str, Any]) -> None:
        try:
            bus.fire(PROGRESS_TAG + data["id"], data)
        except (BusLostError, PermissionError):
            log.debug("storage: nobody hears of %s", data["text"])

    return tell


def progress_reports(opts: Mapping[str, Any]) -> Tell:
    """Return a function that reports a long step of this host to the master, for its event
    ``storage/progress/<id>``.

    A report is signed as a request is, and gets no answer: nobody knows whether it arrived.

    :param opts: the minion's options.
    """
    bus, keys = EventBus("minion", opts), OwnKeys(opts)

    def tell(data: dict[str, Any]) -> None:
        log.info("storage: %s", data["text"])
        report = envelope.seal_request(keys.private(), opts["id"], envelope.PROGRESS, data)
        bus.pass_on(envelope.REQUEST_TAG + report.id, dict(report.data))

    return tell
