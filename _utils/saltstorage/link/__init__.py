"""The way of Salt's processes to the controller's process, which they start where none runs."""
