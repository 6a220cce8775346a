"""What the consumer stands on: its configuration, records, locks and commands."""
