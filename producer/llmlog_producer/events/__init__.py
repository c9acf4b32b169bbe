"""Payload to event: copied, redacted, truncated, encoded."""
