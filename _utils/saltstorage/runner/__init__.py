"""What salt-run and masterless minions share."""
