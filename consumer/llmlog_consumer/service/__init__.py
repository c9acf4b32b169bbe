"""Processes: the supervisor, its workers, the checks before they start, the metrics page."""
