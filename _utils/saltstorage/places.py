"""Where things are by default, on both ends."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

#: The controller's own directory: catalog, locks, socket.
STATE_DIR = "/var/lib/salt-storage/controller"
#: The controller's configuration, apart from Salt's.
CONFIG = "/etc/salt-storage/controller.yaml"


def under_root(opts: Mapping[str, Any], path: str) -> str:
    """Return an absolute default path below Salt's ``root_dir``.

    >>> under_root({"root_dir": "/srv/salt"}, "/opt/salt-storage")
    '/srv/salt/opt/salt-storage'
    """
    root = str(opts.get("root_dir") or "/")
    return path if root == "/" else os.path.join(root, path.lstrip("/"))
