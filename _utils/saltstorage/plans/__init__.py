"""The plans of the states, one file a state function: the world compared with the request."""
