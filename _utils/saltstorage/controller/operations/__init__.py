"""What minions ask for: volumes, snapshots, connections."""
