"""What `status`, `trace` and `verify` find."""
