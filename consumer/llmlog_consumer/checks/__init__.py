"""The checks behind `pipeline status`, `trace` and `verify`."""
