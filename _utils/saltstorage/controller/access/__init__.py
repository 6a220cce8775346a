"""Configuration, policy and locks: the rights of each minion, and one operation at a time."""
