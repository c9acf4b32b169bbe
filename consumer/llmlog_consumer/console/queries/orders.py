"""Owns what a person orders of dead letters: which of them, and with which changes. Pure."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final

from llmlog_common.errors import ConfigurationError
from llmlog_consumer.console.queries.period import SPANS
from llmlog_consumer.dead_letters.filters import Filter
from llmlog_consumer.dead_letters.mending.changes import ChangeKind, parse_changes
from llmlog_schemas.event import EVENT_ID

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from llmlog_consumer.dead_letters.mending.changes import Change

DEFAULT_SPAN: Final = "7d"
_FINGERPRINT: Final = re.compile(r"[0-9a-f]{12}")
_MINUTE_MS: Final = 60_000


@dataclass(frozen=True, slots=True)
class Order:
    """A dry run or a replay that a person has asked for.

    Attributes:
        kind: `dry run` or `replay`.
        span: of `SPANS`.
        wanted: the letters.
        rows: kind, field and value of each change, as the form has them.
        changes: the same, read.
    """

    kind: str
    span: str
    wanted: Filter
    rows: tuple[tuple[str, str, str], ...] = ()
    changes: tuple[Change, ...] = ()

    @property
    def key(self) -> str:
        """What is equal for orders of the same work."""
        which = [self.span, self.wanted.fingerprint, self.wanted.event_id]
        return json.dumps([self.kind, *which, self.rows])

    @property
    def words(self) -> list[str]:
        """The changes in words, in their order."""
        return [change.describe() for change in self.changes]


def read_order(
    kind: str, params: Mapping[str, str], form: Mapping[str, Sequence[str]], now: float
) -> Order | None:
    """Return what an address and a form order; None where they name no cause.

    Args:
        kind: `dry run` or `replay`.
        params: of the address: `period` and `fingerprint`.
        form: `scope` and `event_id`; `change`, `field` and `value` of each row.
        now: epoch seconds.

    Raises:
        ConfigurationError: a change cannot be used.
    """
    wanted = read_filter(params, now)
    if wanted is None:
        return None
    event_id = next(iter(form.get("event_id", ())), "")
    if event_id and next(iter(form.get("scope", ())), "") != "cause":
        if not EVENT_ID.fullmatch(event_id):
            raise ConfigurationError("the form names no event")
        wanted = Filter(since_ms=wanted.since_ms, fingerprint=wanted.fingerprint, event_id=event_id)
    rows = tuple(
        row
        for row in zip(
            form.get("change", ()), form.get("field", ()), form.get("value", ()), strict=False
        )
        if row[1].strip()
    )
    return Order(kind, read_span(params), wanted, rows, _read_changes(rows))


def _read_changes(rows: Sequence[tuple[str, str, str]]) -> tuple[Change, ...]:
    found: dict[str, list[str]] = {kind: [] for kind in ChangeKind}
    for kind, field, value in rows:
        if kind not in found:
            raise ConfigurationError(f"there is no change {kind[:20]}")
        name = field.strip()
        found[kind].append(name if kind == ChangeKind.DROP else f"{name}={value}")
    return parse_changes(
        drop=found[ChangeKind.DROP],
        coerce=[text.strip() for text in found[ChangeKind.COERCE]],
        to_set=found[ChangeKind.SET],
    )


def read_span(params: Mapping[str, str]) -> str:
    """Return the period that an address names; a week where it names none."""
    span = params.get("period", DEFAULT_SPAN)
    return span if span in SPANS else DEFAULT_SPAN


def read_since_ms(params: Mapping[str, str], now: float) -> int:
    """Return the first moment of that period, in epoch milliseconds, at a full minute."""
    since_ms = int(now * 1000) - SPANS[read_span(params)][1] * 1000
    return since_ms // _MINUTE_MS * _MINUTE_MS


def read_filter(params: Mapping[str, str], now: float) -> Filter | None:
    """Return which letters an address names; None where it names no cause."""
    fingerprint = params.get("fingerprint", "")
    if not _FINGERPRINT.fullmatch(fingerprint):
        return None
    return Filter(since_ms=read_since_ms(params, now), fingerprint=fingerprint)


def span_of(failed_at: str | None, now: float) -> str:
    """Return the shortest period in which a letter lies; the longest where it lies in none.

    Args:
        failed_at: ISO 8601 time of the letter.
        now: epoch seconds.
    """
    try:
        age = now - datetime.fromisoformat(failed_at or "").timestamp()
    except (ValueError, OverflowError):
        return DEFAULT_SPAN
    spans = [name for name, (_, seconds) in SPANS.items() if seconds > age + 60]
    return spans[0] if spans else list(SPANS)[-1]
