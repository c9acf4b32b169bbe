"""Counts letters by cause, stage, index, model and hour: each name once, its newest letter.

For each letter some numbers are kept and no text, so that a million fit in 20 MB; headers are
compared as bytes, and decoded once for each value that they have.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from llmlog_consumer.dead_letters.filters import Filter
from llmlog_consumer.dead_letters.found import found, name_of, second_of
from llmlog_consumer.dead_letters.letter import PREFIX
from llmlog_consumer.dead_letters.message import read_headers
from llmlog_consumer.dead_letters.names import Names
from llmlog_consumer.dead_letters.reasons import redacted
from llmlog_consumer.times import iso

if TYPE_CHECKING:
    from collections.abc import Iterable

    from llmlog_consumer.dead_letters.names import Column

MOST_CAUSES: Final = 10_000
MOST_LABELS: Final = 1_000
"""Fingerprints, indices and models that are counted each by itself; what is beyond is `other`."""
OTHER: Final = "other"

_TOPIC, _PARTITION, _OFFSET, _FINGERPRINT, _STAGE, _TYPE, _INDEX, _MODEL = (
    PREFIX + name
    for name in ("topic", "partition", "offset", "fingerprint", "stage", "es.type", "index",
                 "model")
)  # fmt: skip
_NOT_ASKED_FOR: Final = 1 << 62
_BITS: Final = 16
_MASK: Final = (1 << _BITS) - 1


@dataclass(slots=True)
class _Cause:
    """Letters of one fingerprint; times are epoch milliseconds of letters."""

    fingerprint: str
    stage: str | None
    type: str | None
    reason: str
    example: str
    first_ms: int
    last_ms: int
    count: int = 0


@dataclass(slots=True)
class _Labels:
    """Numbers for texts; number 0 is what is beyond the bound."""

    numbers: dict[bytes | None, int] = field(default_factory=dict)
    texts: list[str | None] = field(default_factory=lambda: [OTHER])

    def of(self, raw: bytes | None) -> int:
        number = self.numbers.get(raw)
        if number is None:
            if len(self.texts) > MOST_LABELS:
                return 0
            number = self.numbers[raw] = len(self.texts)
            self.texts.append(raw.decode("utf-8", "replace") if raw else None)
        return number


class Stats:
    """Letters in, counts out.

    Args:
        wanted: which letters are counted.
    """

    def __init__(self, wanted: Filter | None = None) -> None:
        self._wanted = wanted or Filter()
        self._by_time_alone = self._wanted.of_time_alone
        self._names = Names()
        self._columns: dict[tuple[bytes | None, bytes | None], Column] = {}
        self._causes: list[_Cause] = []
        self._cause_numbers: dict[object, int] = {}
        self._indices, self._models = _Labels(), _Labels()
        self.read = 0
        self.foreign = 0

    def add(self, messages: Iterable[Any]) -> None:
        """Take letters in, in the order in which they lie."""
        causes, numbers, columns = self._causes, self._cause_numbers, self._columns
        for message in messages:
            self.read += 1
            raw = read_headers(message)
            headers = dict(raw) if raw else {}
            ms = message.timestamp()[1]
            try:
                number = numbers[headers[_FINGERPRINT], headers[_STAGE], headers.get(_TYPE)]
                offset = int(headers[_OFFSET])
                column = columns[headers[_TOPIC], headers[_PARTITION]]
            except (KeyError, ValueError, TypeError):
                number, offset, column = self._unseen(message, headers)
            cause = causes[number]
            cause.first_ms = min(cause.first_ms, ms)
            cause.last_ms = max(ms, cause.last_ms)
            if self._asked_for(message, ms):
                value = (
                    (number << _BITS | self._indices.of(headers.get(_INDEX))) << _BITS
                ) | self._models.of(headers.get(_MODEL))
            else:
                value = _NOT_ASKED_FOR
            column.put(offset, ms // 1000 if 0 <= ms < 1 << 41 else second_of(message), value)

    def _asked_for(self, message: Any, ms: int) -> bool:
        if self._by_time_alone:
            return self._wanted.in_time(ms)
        return self._wanted.takes(found(message, content=False))

    def _unseen(self, message: Any, headers: dict[str, bytes | None]) -> tuple[int, int, Column]:
        """Read a letter in full: the first of its kind, or one that something else wrote."""
        letter = found(message, content=False)
        topic, partition, offset = name_of(read_headers(message), message)
        column = self._names.column((topic, partition))
        if isinstance(topic, bytes) and isinstance(partition, bytes) and letter.writer:
            self._columns[topic, partition] = column
        self.foreign += not letter.writer
        kind = (headers.get(_FINGERPRINT), headers.get(_STAGE), headers.get(_TYPE))
        if not kind[0]:
            kind = (letter.fingerprint.encode(), *kind[1:])
        number = self._cause_numbers.get(kind)
        if number is None:
            number = self._new_cause(letter, kind)
        return number, offset, column

    def _new_cause(self, letter: Any, kind: tuple[Any, ...]) -> int:
        ms = letter.timestamp_ms
        if len(self._causes) >= MOST_CAUSES:
            kind = (OTHER,)
            if kind in self._cause_numbers:
                return self._cause_numbers[kind]
            cause = _Cause(OTHER, None, None, "", letter.coordinates, ms, ms)
        else:
            said = letter.headers.get("es.reason") or letter.headers.get("exception") or ""
            cause = _Cause(
                letter.fingerprint, letter.headers.get("stage"), letter.headers.get("es.type"),
                redacted(said), letter.coordinates, ms, ms,
            )  # fmt: skip
        number = self._cause_numbers[kind] = len(self._causes)
        self._causes.append(cause)
        return number

    def as_json(self) -> dict[str, Any]:
        """Return what `pipeline dlq stats --json` prints."""
        causes: Counter[int] = Counter()
        indices: Counter[int] = Counter()
        models: Counter[int] = Counter()
        hours: Counter[int] = Counter()
        for second, value in self._names:
            if value == _NOT_ASKED_FOR:
                continue
            causes[value >> 2 * _BITS] += 1
            indices[value >> _BITS & _MASK] += 1
            models[value & _MASK] += 1
            hours[second // 3600] += 1
        stages: Counter[str | None] = Counter()
        for number, count in causes.items():
            stages[self._causes[number].stage] += count
        return {
            "total": causes.total(),
            "fingerprints": [
                self._row(self._causes[number], count) for number, count in causes.most_common()
            ],
            "stages": [{"stage": stage, "count": n} for stage, n in stages.most_common()],
            "indices": [
                {"index": self._indices.texts[number], "count": count}
                for number, count in indices.most_common()
            ],
            "models": [
                {"model": self._models.texts[number], "count": count}
                for number, count in models.most_common()
            ],
            "hours": [
                {"hour": iso(hour * 3_600_000), "count": count}
                for hour, count in sorted(hours.items())
            ],
        }

    @staticmethod
    def _row(cause: _Cause, count: int) -> dict[str, Any]:
        return {
            "fingerprint": cause.fingerprint,
            "stage": cause.stage,
            "type": cause.type,
            "count": count,
            "first_seen": iso(cause.first_ms),
            "last_seen": iso(cause.last_ms),
            "example": cause.example,
            "reason": cause.reason,
        }
