"""Mending: fields of an event that are changed on the way of a replay."""
