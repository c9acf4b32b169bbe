"""Fakes, written once: what a test puts in the place of a server or of a neighbour."""
