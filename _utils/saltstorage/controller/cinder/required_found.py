"""Made by tools/required_options.py from the sources of Cinder's drivers; do not edit."""

#: By class path: groups of options of which one is needed.
FOUND: dict[str, tuple[tuple[str, ...], ...]] = {
    "cinder.volume.drivers.ceph.rbd_iscsi.RBDISCSIDriver": (
        ("rbd_iscsi_api_password",),
        ("rbd_iscsi_api_url",),
        ("rbd_iscsi_api_user",),
        ("rbd_iscsi_target_iqn",),
    ),
    "cinder.volume.drivers.datacore.fc.FibreChannelVolumeDriver": (
        ("san_ip",),
        ("san_password",),
    ),
    "cinder.volume.drivers.datacore.iscsi.ISCSIVolumeDriver": (
        ("san_ip",),
        ("san_password",),
    ),
    "cinder.volume.drivers.datera.datera_iscsi.DateraDriver": (("san_ip",),),
    "cinder.volume.drivers.dell_emc.powervault.fc.PVMEFCDriver": (
        ("san_ip",),
        ("san_password",),
    ),
    "cinder.volume.drivers.dell_emc.powervault.iscsi.PVMEISCSIDriver": (
        ("san_ip",),
        ("san_password",),
    ),
    "cinder.volume.drivers.hedvig.hedvig_cinder.HedvigISCSIDriver": (
        ("san_clustername",),
        ("san_ip",),
        ("san_password",),
    ),
    "cinder.volume.drivers.hitachi.hbsd_fc.HBSDFCDriver": (
        ("san_ip",),
        ("san_password",),
    ),
    "cinder.volume.drivers.hitachi.hbsd_iscsi.HBSDISCSIDriver": (
        ("san_ip",),
        ("san_password",),
    ),
    "cinder.volume.drivers.hpe.alletramp_driver.HPEAlletraMPFCDriver": (
        ("hpe3par_api_url",),
        ("hpe3par_password",),
        ("hpe3par_username",),
        ("san_ip",),
        ("san_password",),
    ),
    "cinder.volume.drivers.hpe.alletramp_driver.HPEAlletraMPISCSIDriver": (
        ("hpe3par_api_url",),
        ("hpe3par_password",),
        ("hpe3par_username",),
        ("san_ip",),
        ("san_password",),
    ),
    "cinder.volume.drivers.hpe.alletramp_driver.HPEAlletraMPNVMETCPDriver": (
        ("hpe3par_api_url",),
        ("hpe3par_password",),
        ("hpe3par_username",),
        ("san_ip",),
        ("san_password",),
    ),
    "cinder.volume.drivers.hpe.hpe_3par_fc.HPE3PARFCDriver": (
        ("hpe3par_api_url",),
        ("hpe3par_password",),
        ("hpe3par_username",),
        ("san_ip",),
        ("san_password",),
    ),
    "cinder.volume.drivers.hpe.hpe_3par_iscsi.HPE3PARISCSIDriver": (
        ("hpe3par_api_url",),
        ("hpe3par_password",),
        ("hpe3par_username",),
        ("san_ip",),
        ("san_password",),
    ),
    "cinder.volume.drivers.hpe.nimble.NimbleISCSIDriver": (
        ("san_ip",),
        ("san_password",),
    ),
    "cinder.volume.drivers.hpe.nimble.NimbleFCDriver": (
        ("san_ip",),
        ("san_password",),
    ),
    "cinder.volume.drivers.hpe.xp.hpe_xp_fc.HPEXPFCDriver": (
        ("san_ip",),
        ("san_password",),
    ),
    "cinder.volume.drivers.hpe.xp.hpe_xp_iscsi.HPEXPISCSIDriver": (
        ("san_ip",),
        ("san_password",),
    ),
    "cinder.volume.drivers.ibm.gpfs.GPFSDriver": (("gpfs_mount_point_base",),),
    "cinder.volume.drivers.ibm.gpfs.GPFSRemoteDriver": (("gpfs_mount_point_base",),),
    "cinder.volume.drivers.ibm.gpfs.GPFSNFSDriver": (("gpfs_mount_point_base",),),
    "cinder.volume.drivers.ibm.ibm_storage.ibm_storage.IBMStorageDriver": (("san_ip",),),
    "cinder.volume.drivers.ibm.storwize_svc.storwize_svc_fc.StorwizeSVCFCDriver": (
        ("san_ip",),
        ("san_password",),
    ),
    "cinder.volume.drivers.ibm.storwize_svc.storwize_svc_iscsi.StorwizeSVCISCSIDriver": (
        ("san_ip",),
        ("san_password",),
    ),
    "cinder.volume.drivers.infinidat.InfiniboxVolumeDriver": (("san_ip",),),
    "cinder.volume.drivers.inspur.as13000.as13000_driver.AS13000Driver": (
        ("san_ip",),
        ("san_password",),
    ),
    "cinder.volume.drivers.inspur.instorage.instorage_fc.InStorageMCSFCDriver": (
        ("san_ip",),
        ("san_password",),
    ),
    "cinder.volume.drivers.inspur.instorage.instorage_iscsi.InStorageMCSISCSIDriver": (
        ("san_ip",),
        ("san_password",),
    ),
    "cinder.volume.drivers.kaminario.kaminario_iscsi.KaminarioISCSIDriver": (
        ("san_ip",),
        ("san_password",),
    ),
    "cinder.volume.drivers.lenovo.lenovo_fc.LenovoFCDriver": (
        ("san_ip",),
        ("san_password",),
    ),
    "cinder.volume.drivers.lenovo.lenovo_iscsi.LenovoISCSIDriver": (
        ("san_ip",),
        ("san_password",),
    ),
    "cinder.volume.drivers.nec.v.nec_v_fc.VStorageFCDriver": (
        ("san_ip",),
        ("san_password",),
    ),
    "cinder.volume.drivers.nec.v.nec_v_iscsi.VStorageISCSIDriver": (
        ("san_ip",),
        ("san_password",),
    ),
    "cinder.volume.drivers.netapp.dataontap.fc_cmode.NetAppCmodeFibreChannelDriver": (
        ("netapp_certificate_file",),
        ("netapp_login",),
        ("netapp_password",),
        ("netapp_private_key_file",),
        ("netapp_server_hostname",),
        ("netapp_vserver",),
    ),
    "cinder.volume.drivers.netapp.dataontap.iscsi_cmode.NetAppCmodeISCSIDriver": (
        ("netapp_certificate_file",),
        ("netapp_login",),
        ("netapp_password",),
        ("netapp_private_key_file",),
        ("netapp_server_hostname",),
        ("netapp_vserver",),
    ),
    "cinder.volume.drivers.netapp.dataontap.nfs_cmode.NetAppCmodeNfsDriver": (
        ("netapp_certificate_file",),
        ("netapp_login",),
        ("netapp_password",),
        ("netapp_private_key_file",),
        ("netapp_server_hostname",),
        ("netapp_vserver",),
    ),
    "cinder.volume.drivers.netapp.dataontap.nvme_cmode.NetAppCmodeNVMeDriver": (
        ("netapp_certificate_file",),
        ("netapp_login",),
        ("netapp_password",),
        ("netapp_private_key_file",),
        ("netapp_server_hostname",),
        ("netapp_vserver",),
    ),
    "cinder.volume.drivers.qnap.QnapISCSIDriver": (
        ("qnap_management_url",),
        ("qnap_poolname",),
        ("san_password",),
    ),
    "cinder.volume.drivers.quobyte.QuobyteDriver": (("quobyte_volume_url",),),
    "cinder.volume.drivers.san.hp.hpmsa_fc.HPMSAFCDriver": (
        ("san_ip",),
        ("san_password",),
    ),
    "cinder.volume.drivers.san.hp.hpmsa_iscsi.HPMSAISCSIDriver": (
        ("san_ip",),
        ("san_password",),
    ),
    "cinder.volume.drivers.solidfire.SolidFireDriver": (("san_ip",),),
    "cinder.volume.drivers.synology.synology_iscsi.SynoISCSIDriver": (("synology_pool_name",),),
    "cinder.volume.drivers.toyou.acs5000.acs5000_fc.Acs5000FCDriver": (
        ("san_ip",),
        ("san_password",),
    ),
    "cinder.volume.drivers.toyou.acs5000.acs5000_iscsi.Acs5000ISCSIDriver": (
        ("san_ip",),
        ("san_password",),
    ),
    "cinder.volume.drivers.toyou.tyds.tyds.TYDSDriver": (
        ("san_ip",),
        ("san_password",),
    ),
    "cinder.volume.drivers.veritas_access.veritas_iscsi.ACCESSIscsiDriver": (
        ("san_api_port",),
        ("san_ip",),
        ("san_password",),
    ),
    "cinder.volume.drivers.vmstore.nfs.VmstoreNfsDriver": (
        ("vmstore_password",),
        ("vmstore_rest_address",),
    ),
    "cinder.volume.drivers.vmware.fcd.VMwareVStorageObjectDriver": (
        ("vmware_host_ip",),
        ("vmware_host_password",),
        ("vmware_host_username",),
    ),
    "cinder.volume.drivers.vmware.vmdk.VMwareVcVmdkDriver": (
        ("vmware_host_ip",),
        ("vmware_host_password",),
        ("vmware_host_username",),
    ),
    "cinder.volume.drivers.yadro.tatlin_fc.TatlinFCVolumeDriver": (
        ("host_group",),
        ("pool_name",),
        ("san_ip",),
        ("san_password",),
    ),
    "cinder.volume.drivers.yadro.tatlin_iscsi.TatlinISCSIVolumeDriver": (
        ("host_group",),
        ("pool_name",),
        ("san_ip",),
        ("san_password",),
    ),
}
