"""The file driver for many hosts: sparse files, each exported by this machine as an iSCSI target
of its own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cinder import interface
from cinder.common import constants
from cinder.volume import driver

from .file import FileDriver
from .targets import exports
from .targets.lio import LioTarget
from .targets.tgt import TgtTarget

_PATH = re.compile(r"[A-Za-z0-9/._+@-]+")


@interface.volumedriver
class FileISCSIDriver(exports.Exports, FileDriver):
    """Volumes as sparse files in a directory, exported over iSCSI by this machine.

    ``target_ip_address`` is required. ``target_helper`` is ``tgtadm`` (the default; in user space,
    package tgt) or ``lioadm`` (the kernel's LIO). A target is visible and open only to the hosts
    that the volume is connected to, always with CHAP. Name and password are drawn at random when a
    volume is first connected, and forgotten when no host is left.
    """

    PROTOCOL = constants.ISCSI
    TARGETS: Mapping[str, type[Any]] = {"tgtadm": TgtTarget, "lioadm": LioTarget}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.target: Any = None

    @classmethod
    def refused_options(cls, options: Mapping[str, Any]) -> dict[str, str]:
        """Return the options that make no sense here, and why."""
        refused = exports.refused_options(options, cls.TARGETS, "tgtadm")
        path = options.get("file_driver_path")
        if isinstance(path, str) and not _PATH.fullmatch(path):
            refused["file_driver_path"] = (
                "may have only letters, digits and /._+@- for this driver: it stands in files of the target daemon"
            )
        return refused

    @staticmethod
    def get_driver_options() -> list[Any]:
        """Return the options that this driver adds to those of every driver, targets' included."""
        names = {"target_ip_address", "target_secondary_ip_addresses", "target_port", "target_helper", "target_prefix", "volumes_dir"}
        names.add("iscsi_write_cache")
        return [*FileDriver.get_driver_options(), *(option for option in driver.volume_opts if option.dest in names)]

    def do_setup(self, context: Any) -> None:
        """Prepare the directory and the target helper."""
        super().do_setup(context)
        self.target = self.TARGETS[self.configuration.target_helper](configuration=self.configuration)

    def check_for_setup_error(self) -> None:
        """Refuse a directory that :class:`FileDriver` refuses, and a target daemon that does not
        answer.
        """
        super().check_for_setup_error()
        self.target.check()

    def extend_volume(self, volume: Any, new_size: int) -> None:
        """Make the file longer, and have connected hosts see the new size."""
        super().extend_volume(volume, new_size)
        self.target.grow(volume, self._existing(volume))

    def _place(self, volume: Any) -> Path:
        return self._file(volume)

    def _update_volume_stats(self) -> None:
        super()._update_volume_stats()
        self._stats["volume_backend_name"] = self.configuration.safe_get("volume_backend_name") or "file_iscsi"
