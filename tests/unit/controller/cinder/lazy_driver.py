from __future__ import annotations

from typing import Any

from cinder import exception
from oslo_utils import importutils

from saltstorage.drivers.file import FileDriver

absent = importutils.try_import("storage_no_such_vendor_library")


class LazyDriver(FileDriver):
    """Finds out late that its library is missing, as many vendors' drivers do."""

    def do_setup(self, context: Any) -> None:
        raise exception.VolumeDriverException("the client is not there")
