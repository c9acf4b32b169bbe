"""Processes: the supervisor, its workers, what is looked at before they start."""
