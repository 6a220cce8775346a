"""Private: the sparse files that the file drivers keep volumes in."""
