"""Connectors: os-brick, and what it lacks for RBD, NVMe, iSCSI and network shares."""
