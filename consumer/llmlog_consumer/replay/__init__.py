"""Replay: dead letters on their way to the index or to a topic again."""
