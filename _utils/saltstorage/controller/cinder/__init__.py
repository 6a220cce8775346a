"""All that knows Cinder and cinderlib."""
