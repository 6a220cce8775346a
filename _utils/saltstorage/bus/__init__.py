"""Sealed requests of minions to the controller, and sealed replies, over Salt's event bus."""
