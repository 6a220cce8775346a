"""Private: iSCSI targets of this machine, one a volume: the kernel's (LIO), or those of tgtd."""
