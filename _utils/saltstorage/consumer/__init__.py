"""The consumer: what runs on the minion and turns a connection into a block device."""
