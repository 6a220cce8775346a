"""Facts that the sources of Cinder's drivers do not say about their options; written by hand."""

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

_SAN = (("san_ip",), ("san_password",))
_SSH = (("san_ip",), ("san_password", "san_private_key"))
_NETAPP = (
    ("netapp_server_hostname",),
    ("netapp_login", "netapp_certificate_file"),
    ("netapp_password", "netapp_private_key_file"),
    ("netapp_vserver",),
)

#: By the start of the class path: the options without which the driver cannot work, instead of
#: those that ``required_found`` has. Each is a group of options of which one is enough. A driver
#: gets here when it starts without them and fails later with a fault that names none, or when one
#: list in its source holds under a condition only.
REQUIRED: dict[str, tuple[tuple[str, ...], ...]] = {
    "cinder.volume.drivers.dell_emc.powerflex.": _SAN,
    "cinder.volume.drivers.dell_emc.powermax.": (*_SAN, ("powermax_array",)),
    "cinder.volume.drivers.dell_emc.powerstore.driver.": _SAN,
    "cinder.volume.drivers.dell_emc.sc.": _SAN,
    "cinder.volume.drivers.dell_emc.unity.": _SAN,
    "cinder.volume.drivers.dell_emc.xtremio.": _SAN,
    "cinder.volume.drivers.ibm.gpfs.": (("gpfs_mount_point_base",),),
    "cinder.volume.drivers.ibm.storwize_svc.": _SSH,
    "cinder.volume.drivers.infinidat.": (*_SAN, ("infinidat_pool_name",)),
    "cinder.volume.drivers.inspur.as13000.": _SAN,
    "cinder.volume.drivers.inspur.instorage.": _SSH,
    "cinder.volume.drivers.kioxia.": (("kioxia_url",), ("kioxia_token",)),
    "cinder.volume.drivers.lightos.": (("lightos_api_address",),),
    "cinder.volume.drivers.nec.volume.": (("nec_ismcli_fip",),),
    "cinder.volume.drivers.netapp.": _NETAPP,
    "cinder.volume.drivers.nexenta.iscsi.": (("nexenta_host",),),
    "cinder.volume.drivers.nexenta.ns5.iscsi.": (("nexenta_rest_address", "nexenta_host"),),
    "cinder.volume.drivers.nexenta.ns5.nfs.": (("nexenta_rest_address", "nas_host"),),
    "cinder.volume.drivers.open_e.": (("san_hosts",),),
    "cinder.volume.drivers.pure.": (("san_ip",), ("pure_api_token",)),
    "cinder.volume.drivers.rsd.": (("podm_url",), ("podm_username",), ("podm_password",)),
    "cinder.volume.drivers.solidfire.": _SAN,
    "cinder.volume.drivers.toyou.acs5000.": _SSH,
    "cinder.volume.drivers.vastdata.": (("san_ip",), ("vast_subsystem",), ("vast_vippool_name",)),
    "cinder.volume.drivers.zadara.": (("zadara_vpsa_host",), ("zadara_access_key",)),
}
