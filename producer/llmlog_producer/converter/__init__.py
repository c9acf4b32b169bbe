"""The process beside the gateway that converts payloads to events."""
