"""Owns the step from event to document: index name, document id, JSON bytes. Pure.

The gateway has built the document already. It is sent as it is, with `indexed_at` in front, and
never parsed, but not trusted: a document that could reach beyond its own line of a bulk body is
rewritten or refused.
"""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import timedelta
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from llmlog_common.groups import MAX_GROUPS, MAX_PLACE_CHARACTERS
from llmlog_common.units import format_duration
from llmlog_consumer.elasticsearch.index_names import DAY_MS, daily_index, group_of
from llmlog_schemas.event import EARLIEST_MS, EVENT_ID, LATEST_MS, event_time_ms
from llmlog_schemas.fields import INDEXED_AT

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llmlog_schemas.event import EventHead

# `in` is eight times as fast for a number as for bytes of length 1.
_NEWLINE: Final = ord("\n")
_RETURN: Final = ord("\r")

_is_event_id: Final = EVENT_ID.fullmatch
_QUOTE: Final = ord('"')
MAX_UNKNOWN_GROUPS: Final = 2 * MAX_GROUPS
"""Groups that a worker takes beside those of its settings: gateways may change theirs."""
_NO_AGES: Final[Mapping[str, timedelta]] = MappingProxyType({})
_MILLISECOND: Final = timedelta(milliseconds=1)
_STAMP_KEY: Final = f'"{INDEXED_AT}"'.encode()


class TransformError(ValueError):
    """The event was decoded, but makes no document; the text says why."""


class ExpiredError(Exception):
    """The event is older than the limit: its day's index is gone, or soon will be.

    The text of each has the same form, so that the letters have one fingerprint.
    """

    def __init__(self, age_ms: float, max_age: timedelta, group: str = "") -> None:
        days, ms = divmod(int(age_ms), DAY_MS)
        hours, minutes = divmod(ms // 60_000, 60)
        setting = f"LLMLOG_GROUP_MAX_EVENT_AGE of {group}" if group else "LLMLOG_MAX_EVENT_AGE"
        super().__init__(
            f"the event is {days} d {hours:02} h {minutes:02} min old, more than "
            f"{setting} allows ({format_duration(max_age)})"
        )


class Documents:
    """Turns events into documents.

    Args:
        alias: the daily indices' common prefix and alias.
        max_event_age: age above which an event is expired, so that no deleted index is recreated.
        group_ages: the same for the events of some groups.
    """

    def __init__(
        self, alias: str, max_event_age: timedelta, group_ages: Mapping[str, timedelta] = _NO_AGES
    ) -> None:
        self._alias = alias
        self._max_age = max_event_age
        self._group_ages = group_ages
        self._groups: set[str] = set()  # that were met, and that no setting names
        self._minutes = lru_cache(maxsize=4000)(self._read_minutes)

    def make(self, event: EventHead, now_ms: float) -> tuple[str, str, bytes]:
        """Return index name, document id and the document as one line of JSON.

        The document begins with `indexed_at`, the time `now_ms`, and has it once.

        Args:
            event: decoded.
            now_ms: epoch milliseconds.

        Raises:
            TransformError: the id, the time, the place or the document is not valid.
            ExpiredError: older than the greatest age of its group.
        """
        event_id, document = event["event_id"], event["document"]
        if _is_event_id(event_id) is None:
            raise TransformError(f"event_id {event_id[:64]!r} is not 20 of A-Z a-z 0-9 - _")
        # Five characters are the upper 30 bits of the time: four minutes, nearly always in one day.
        place = event["index_place"]
        if len(place) > MAX_PLACE_CHARACTERS:
            raise TransformError(f"index_place {place[:64]!r} is not a period and a group")
        first, last, max_age_ms, index = self._minutes(event_id[:5], place)
        if index is None or now_ms - first > max_age_ms or last > now_ms + DAY_MS:
            index = self._index(event_time_ms(event_id), place, now_ms)
        line = one_line(document)
        if _STAMP_KEY in line or line[1] != _QUOTE:  # not as a gateway writes it
            return index, event_id, stamp(line, now_ms)
        return index, event_id, b'{"indexed_at":%d,%b' % (now_ms, line[1:])

    def _index(self, time_ms: int, place: str, now_ms: float) -> str:
        if not EARLIEST_MS <= time_ms < LATEST_MS:
            raise TransformError(f"start time {time_ms} ms is outside 2020 to 2100")
        if time_ms > now_ms + DAY_MS:
            raise TransformError(
                f"start time {time_ms} ms is to come: more than a day after this host's clock"
            )
        group = group_of(place)
        if not self._is_welcome(group):
            raise TransformError(
                f"group {group!r}: this worker has met {MAX_UNKNOWN_GROUPS} others that "
                "LLMLOG_GROUP_MAX_EVENT_AGE does not name, and each has indices of its own"
            )
        max_age = self._group_ages.get(group, self._max_age)
        if now_ms - time_ms > max_age / _MILLISECOND:
            own = group if group in self._group_ages else ""
            raise ExpiredError(now_ms - time_ms, max_age, own)
        try:
            return daily_index(self._alias, time_ms, place)
        except ValueError as error:
            raise TransformError(str(error)) from None

    def _is_welcome(self, group: str) -> bool:
        """Tell whether a group may have indices: whoever may write to the topic can name any."""
        if not group or group in self._group_ages or group in self._groups:
            return True
        if len(self._groups) >= MAX_UNKNOWN_GROUPS:
            return False
        self._groups.add(group)
        return True

    def _read_minutes(self, prefix: str, place: str) -> tuple[int, int, float, str | None]:
        """Return what ids with this prefix have in common.

        Returns:
            The first and last time, the greatest age, all in milliseconds; the index or None.
        """
        first, last = event_time_ms(f"{prefix}AAA"), event_time_ms(f"{prefix}___")
        good = first >= EARLIEST_MS and last < LATEST_MS and first // DAY_MS == last // DAY_MS
        index = None
        if good and self._is_welcome(group_of(place)):
            with suppress(ValueError):
                index = daily_index(self._alias, first, place)
        max_age = self._group_ages.get(group_of(place), self._max_age)
        return first, last, max_age / _MILLISECOND, index


def one_line(document: bytes) -> bytes:
    """Return the document as one line: in a bulk body a newline is an operation.

    Valid JSON has newlines only between its tokens, so spaces can replace them.

    Raises:
        TransformError: it is no JSON object, or has newlines and is no valid JSON.
    """
    spans_lines = _NEWLINE in document or _RETURN in document
    # The usual form, as the gateway writes it, needs no further check.
    if document[:2] == b'{"' and document[-1:] == b"}" and not spans_lines:
        return document
    if spans_lines:
        check(document)
        document = document.replace(b"\n", b" ").replace(b"\r", b" ").strip()
    if document[:1] != b"{" or document[-1:] != b"}":
        raise TransformError(f"document is no JSON object: it begins {document[:16]!r}")
    return document


def stamp(line: bytes, now_ms: float) -> bytes:
    """Return a document of any form with `indexed_at` in front.

    A gateway writes none; what another program has put there is replaced. What is no valid JSON is
    left to Elasticsearch to refuse.
    """
    with suppress(ValueError, RecursionError):
        fields = json.loads(line)
        if fields.pop(INDEXED_AT, None) is not None:
            line = json.dumps(fields, allow_nan=False).encode()
    rest = line[1:].lstrip()
    return b'{"%b":%d%b%b' % (INDEXED_AT.encode(), now_ms, b"" if rest == b"}" else b",", rest)


def check(document: bytes) -> None:
    """Parse the document; called for a document that Elasticsearch could not parse.

    Raises:
        TransformError: it is no valid JSON, so the event is at fault and not the mapping.
    """

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is no JSON")

    try:
        # Numbers stay text: Python reads no integer of 5,000 digits.
        json.loads(document.decode(), parse_constant=refuse, parse_int=str, parse_float=str)
    except (ValueError, RecursionError) as error:
        raise TransformError(f"document is no valid JSON: {error}") from None
