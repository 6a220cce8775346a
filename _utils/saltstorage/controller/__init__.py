"""The controller: it runs on the master (or in process, masterless) and talks to the backends."""
