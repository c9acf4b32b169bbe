"""Owns the processes that are servers; each module is run as one."""
