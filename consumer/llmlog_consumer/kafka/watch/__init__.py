"""Partitions and connections that stand still: how they are noticed, and what is damaged."""
