"""Cinder's LVM driver with targets of the kernel (LIO) that only the connected hosts see, and that
come back after a boot.

With Cinder's own ``lioadm`` helper every host that can reach the portal can list all targets,
``ps`` shows the CHAP passwords, and a boot restores nothing once any target is there, such as a
target of another backend. The rest is Cinder's driver.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cinder import exception, interface

from ..controller.cinder import lvm
from .targets import exports
from .targets.lio import LioTarget


@interface.volumedriver
class LVMISCSIDriver(exports.Exports, lvm.LVMVolumeDriver):
    """Logical volumes, exported over iSCSI by this machine's kernel.

    ``volume_group``, ``target_helper: lioadm`` and ``target_ip_address`` are required; use
    ``lvm_type: thin``. Targets are the same as with
    :class:`~saltstorage.drivers.file_iscsi.FileISCSIDriver`.
    """

    VENDOR = "Salt storage formula"
    TARGETS: Mapping[str, type[Any]] = {"lioadm": LioTarget}

    @property
    def target_mapping(self) -> dict[str, str]:
        """The target helpers, by which Cinder's driver loads one."""
        return {name: f"{helper.__module__}.{helper.__name__}" for name, helper in self.TARGETS.items()}

    @target_mapping.setter
    def target_mapping(self, _value: Any) -> None:
        """Ignore what Cinder's driver sets."""

    @classmethod
    def refused_options(cls, options: Mapping[str, Any]) -> dict[str, str]:
        """Return the options that make no sense here, and why."""
        return exports.refused_options(options, cls.TARGETS, "tgtadm")

    def check_for_setup_error(self) -> None:
        """Refuse a setup that Cinder's driver refuses, and a kernel without LIO."""
        super().check_for_setup_error()
        self.target.check()

    @property
    def target(self) -> Any:
        """The target helper that Cinder's driver has loaded."""
        return self.target_driver

    def _place(self, volume: Any) -> Path:
        return Path("/dev", self.configuration.volume_group, volume.name)

    def _existing(self, volume: Any) -> Path:
        if self.vg.get_volume(volume.name) is None:
            raise exception.VolumeNotFound(volume_id=volume.id)
        self.vg.activate_lv(volume.name)
        return self._place(volume)
