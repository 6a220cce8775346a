"""The storage environment: a Python of the project's own, beside Salt's."""
