"""Loading os-brick: imported and set up once a process, when something is attached or detached.

os-brick's functions run in this process, as root, without its privilege daemon.
"""

from __future__ import annotations

import functools
import importlib.util
import logging
import os
import sys
import threading
from typing import Any

from ... import imports

_import_lock = threading.Lock()


def load(lock_path: str) -> Any:
    """Import os-brick, set it up once, and return its connector module.

    :param lock_path: directory of os-brick's locks, created with mode 0700.
    """
    with _import_lock:
        connector = _import()
        _setup(lock_path)
        return connector


@functools.cache
def _import() -> Any:
    # os-brick needs no eventlet, but oslo.privsep and oslo.service import it when they can: it
    # costs a third of the time, and gives a deprecation warning. It is kept out while os-brick
    # loads, unless other code in this process has chosen it.
    quick = "eventlet" not in sys.modules and "oslo_service" not in sys.modules and importlib.util.find_spec("cotyledon") is not None
    if quick:
        from oslo_service import backend

        backend.register_backend_default_hook(lambda: backend.BackendType.THREADING)
        sys.modules["eventlet"] = None  # type: ignore[assignment]
    else:
        # os-brick would import it in this thread, and another thread may wait for this one.
        imports.eventlet()
    try:
        from os_brick import privileged
        from os_brick.initiator import connector
    finally:
        if quick:
            del sys.modules["eventlet"]
    # A host without iSCSI or NVMe needs no warning about that; a missing part shows when it is
    # needed.
    for name in ("iscsi", "nvmeof"):
        logging.getLogger(f"os_brick.initiator.connectors.{name}").addFilter(lambda record: "Could not find" not in str(record.msg))
    privileged.default.set_client_mode(False)
    privileged.brick_privsep_hide_output.set_client_mode(False)
    return connector


def _setup(lock_path: str) -> None:
    """Give os-brick its lock path; without one, it fails at the first lock."""
    import os_brick
    from oslo_concurrency import lockutils
    from oslo_config import cfg

    conf = cfg.CONF  # os-brick reads this object.
    if getattr(getattr(conf, "os_brick", None), "lock_path", None) == lock_path:
        return
    os.makedirs(lock_path, mode=0o700, exist_ok=True)
    # An existing lock path was set by Cinder in the same process, and stays for Cinder.
    lockutils.set_defaults(conf.oslo_concurrency.lock_path or lock_path)
    os_brick.setup(conf)
    conf.set_override("lock_path", lock_path, "os_brick")
