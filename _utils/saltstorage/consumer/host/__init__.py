"""The base of the consumer: configuration, records, locks, commands and the heartbeat of long steps."""
