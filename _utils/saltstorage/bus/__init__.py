"""Sealed requests from a minion to the controller, and sealed replies to it, over Salt's event bus."""
