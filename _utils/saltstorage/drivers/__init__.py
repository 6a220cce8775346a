"""Cinder drivers that come with the project."""
