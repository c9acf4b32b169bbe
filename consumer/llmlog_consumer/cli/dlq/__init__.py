"""`pipeline dlq`."""
