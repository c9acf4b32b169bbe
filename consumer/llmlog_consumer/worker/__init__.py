"""One member of the consumer group, and the order of its work."""
