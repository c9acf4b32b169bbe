"""The commands `pipeline dlq`."""
