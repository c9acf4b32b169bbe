"""What gateway and consumer share: the event, its encoding, and the names of all settings."""
