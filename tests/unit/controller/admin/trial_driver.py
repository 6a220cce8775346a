"""Cinder drivers that fail a trial, each in its own way."""

from __future__ import annotations

import os
import sys
import threading
from typing import Any

from cinder import exception

from saltstorage.drivers.file import FileDriver


class CannotCloneDriver(FileDriver):
    """Fails to copy a volume, with its password in the text."""

    def create_cloned_volume(self, volume: Any, src_vref: Any) -> None:
        raise exception.VolumeBackendAPIException(data=f"refused for {self.configuration.chap_password}")


class CannotDeleteDriver(FileDriver):
    """Deletes no volume."""

    def delete_volume(self, volume: Any) -> None:
        raise exception.VolumeBackendAPIException(data="not now")


class HangingDriver(FileDriver):
    """Never answers."""

    def do_setup(self, context: Any) -> None:
        threading.Event().wait()


class CrashingDriver(FileDriver):
    """Ends its process while it copies a volume."""

    def create_cloned_volume(self, volume: Any, src_vref: Any) -> None:
        super().create_cloned_volume(volume, src_vref)
        sys.stdout.write("a driver may print\n")
        sys.stdout.flush()
        os._exit(9)
