"""One file a state: what is, what shall be, and what would change."""
