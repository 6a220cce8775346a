"""What the sources of Cinder's drivers do not say about their options; written by hand."""

from __future__ import annotations

#: Modules that a driver's code names in a text only, and imports when it is set up.
DELEGATES: dict[str, tuple[str, ...]] = {
    "cinder.volume.drivers.ibm.ibm_storage.ibm_storage": ("cinder.volume.drivers.ibm.ibm_storage.ds8k_proxy",),
    "cinder.volume.drivers.lvm": ("cinder.volume.targets.spdknvmf",),
    "cinder.volume.drivers.spdk": ("cinder.volume.targets.spdknvmf",),
}

#: By the start of the class path: the starts of options that code of another vendor brings along.
#: The driver fills them from its own, or they belong to another section of ``cinder.conf``.
FOREIGN: dict[str, tuple[str, ...]] = {
    "cinder.volume.drivers.dell_emc.powervault.": ("seagate_",),
    "cinder.volume.drivers.hpe.xp.": ("hitachi_",),
    "cinder.volume.drivers.nec.v.": ("hitachi_",),
    "cinder.volume.drivers.san.hp.": ("seagate_",),
    "cinder.volume.drivers.vmstore.": ("auth_url", "password", "project_", "user_domain_name", "username"),
}

#: Classes that Cinder registers as drivers, but that only serve to inherit from.
BASES = (
    "cinder.volume.drivers.datacore.driver.DataCoreVolumeDriver",
    "cinder.volume.drivers.dell_emc.powerflex.driver.PowerFlexBaseDriver",
)
