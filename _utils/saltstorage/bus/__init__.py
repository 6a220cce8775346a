"""The way of a request from a consumer to the controller and back, over Salt's event bus."""
