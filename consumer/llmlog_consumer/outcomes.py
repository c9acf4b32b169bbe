"""Owns how a record ends: the outcomes, and the callback that reports one. Pure."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llmlog_consumer.offset_tracker import Span


class Outcome(StrEnum):
    """How a record ended."""

    INDEXED = "indexed"
    """Its document was created."""
    DUPLICATE = "duplicate"
    """Its document existed already."""
    DEAD = "dead"
    """Its dead letter was delivered."""
    DROPPED = "dropped"
    """An ingest pipeline dropped its document, and `LLMLOG_INGEST_DROP=drop` says so."""


Settle = Callable[["Span", Outcome, int, int], None]
"""Reports an outcome: a span, the outcome, how many of its records ended so, their bytes.

Each record is reported exactly once.
"""
