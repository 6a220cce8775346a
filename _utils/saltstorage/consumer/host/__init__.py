"""The base of the consumer: configuration, records, locks, commands and heartbeats."""
