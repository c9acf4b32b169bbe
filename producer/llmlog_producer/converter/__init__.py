"""The process beside the gateway that makes events of payloads."""
