"""File systems on volumes: making, mounting, growing and freezing them, and their table."""
