"""Both ends of one operation: the steps of this host and of the controller, in an order that survives a crash."""
