"""The logic of the states: what they compare, what they plan, and how they say it."""
