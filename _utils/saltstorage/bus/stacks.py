"""A dump of the engine's stacks on a signal, to see where it hangs."""

from __future__ import annotations

import contextlib
import faulthandler
import logging
import os
import signal
from collections.abc import Iterator, Mapping
from typing import Any

log = logging.getLogger(__name__)

#: Name of the file, beside the master's log.
FILE = "storage-engine.stacks"


@contextlib.contextmanager
def on_signal(opts: Mapping[str, Any]) -> Iterator[None]:
    """Write the stacks of all threads of this process to a file whenever it gets SIGUSR1, while
    the context lasts.

    Salt's own handler of this signal knows the main thread alone, and runs only when that goes on;
    a driver that hangs does so in another thread. This one works even when no Python code runs. The
    file has places in the code, and no values.

    :param opts: the master's options.
    """
    path = os.path.join(os.path.dirname(opts["log_file"]), FILE)
    try:
        # Held open: a handler cannot open it.
        file = open(path, "ab", opener=lambda name, flags: os.open(name, flags, 0o600))  # noqa: SIM115 -- closed below
    except OSError as error:
        log.warning("storage: no stacks can be written to %s: %s", path, error.strerror)
        yield
        return
    with file:
        faulthandler.register(signal.SIGUSR1, file=file, all_threads=True)
        log.info("storage: kill -USR1 %d writes the stacks of the engine's threads to %s", os.getpid(), path)
        try:
            yield
        finally:
            faulthandler.unregister(signal.SIGUSR1)
