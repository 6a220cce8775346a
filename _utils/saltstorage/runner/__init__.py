"""The functions of the runner, for salt-run and for masterless minions."""
