"""File systems on volumes: made, mounted, grown, frozen, and listed in fstab."""
