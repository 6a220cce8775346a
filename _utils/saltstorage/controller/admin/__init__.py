"""What only the administrator does, and what a start settles after a crash."""
