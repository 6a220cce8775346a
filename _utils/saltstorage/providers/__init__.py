"""Providers: the code that drives a kind of backend."""
