"""Connectors: os-brick, and its missing parts for RBD, NVMe, iSCSI and network shares."""
