import storage_no_such_vendor_sdk  # noqa: F401

from saltstorage.drivers.file import FileDriver


class NeedyDriver(FileDriver):
    """Imports the library of its vendor at the top."""
