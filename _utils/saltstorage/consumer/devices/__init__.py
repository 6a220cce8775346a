"""Facts from the kernel about block devices, mounts and holders."""
