"""The operations that minions ask for: volumes, snapshots, connections."""
