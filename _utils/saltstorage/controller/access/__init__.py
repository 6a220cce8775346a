"""Who may do what, and one at a time: configuration, policy and locks."""
