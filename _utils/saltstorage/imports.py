"""Imports that cannot be made in every thread."""

from __future__ import annotations

import importlib
import importlib.util
import logging
import os
import sys
import threading

log = logging.getLogger(__name__)


def eventlet() -> None:
    """Import eventlet, as Cinder or os-brick will, in a thread that no thread waits for.

    It makes a second copy of the module threading, which takes the importing thread for the main
    thread and (before Python 3.13) takes over the mark of its end: join() on that thread never
    returns. Where eventlet is loaded, or cannot be, nothing happens.
    """
    if "eventlet" in sys.modules or importlib.util.find_spec("eventlet") is None:
        return
    imported = threading.Event()

    def run() -> None:
        try:
            os.environ["EVENTLET_NO_GREENDNS"] = "yes"  # as Cinder does
            importlib.import_module("eventlet")
        except ImportError:
            log.debug("storage: eventlet cannot be imported", exc_info=True)  # the importer will say so
        finally:
            imported.set()

    threading.Thread(target=run, name="storage-eventlet", daemon=True).start()
    imported.wait()
