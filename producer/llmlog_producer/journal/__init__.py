"""The disk queue of the gateway."""
