"""Cinder and cinderlib: only this room knows them."""
