"""The project's own Cinder drivers.

Public are the paths that an administrator writes as ``volume_driver``:

- ``saltstorage.drivers.file.FileDriver``: sparse files, for hosts on this machine;
- ``saltstorage.drivers.file_iscsi.FileISCSIDriver``: sparse files, exported over iSCSI;
- ``saltstorage.drivers.lvm_iscsi.LVMISCSIDriver``: logical volumes, exported over iSCSI.

These paths stay the same from release to release. The folders ``files`` and ``targets`` are
private: they hold the parts that the drivers share.
"""
