"""The catalog, the controller's database. SQL stands in this room only."""
