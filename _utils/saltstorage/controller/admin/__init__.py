"""The administrator's operations, and the settling of interrupted work after a crash."""
