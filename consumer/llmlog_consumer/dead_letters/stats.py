"""Counts letters by cause, stage, index, model and hour: each name once, its newest letter.

For each letter some numbers are kept and no text, so that a million fit in 20 MB; headers are
compared as bytes, and decoded once for each value that they have.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from llmlog_consumer.dead_letters.cause import PREFIX
from llmlog_consumer.dead_letters.filters import Filter
from llmlog_consumer.dead_letters.letter import found, name_of, second
from llmlog_consumer.dead_letters.message import read_headers
from llmlog_consumer.dead_letters.offset_map import LARGEST, LATEST, OffsetMap
from llmlog_consumer.dead_letters.reasons import redacted
from llmlog_consumer.times import iso

if TYPE_CHECKING:
    from collections.abc import Sequence

    from llmlog_consumer.dead_letters.letter import DeadLetter
    from llmlog_consumer.dead_letters.offset_map import PartitionOffsets

MOST_CAUSES: Final = 10_000
MOST_LABELS: Final = 1_000
"""Fingerprints, indices and models that are counted each by itself; what is beyond is `other`."""
OTHER: Final = "other"

_KIND: Final = tuple(
    PREFIX + name
    for name in ("fingerprint", "stage", "es.type", "index", "model", "topic", "partition")
)
_OFFSET: Final = f"{PREFIX}offset"
_MOST_KINDS: Final = 20_000
"""Combinations of these headers that are known without another look."""
_AT_ONCE: Final = 10_000
"""Letters of which those alike are counted first: nearly all are like many others."""
_NOT_ASKED_FOR: Final = 1 << 62
_LATEST_MS: Final = LATEST * 1000
_BITS: Final = 16
_MASK: Final = (1 << _BITS) - 1


@dataclass(slots=True)
class _Cause:
    """Letters of one fingerprint; times are epoch milliseconds of letters.

    Reason, example and times are of letters that were asked for; empty where none was yet.
    """

    fingerprint: str
    stage: str | None = None
    type: str | None = None
    reason: str = ""
    example: str = ""
    first_ms: int = 0
    last_ms: int = 0

    def begin(self, letter: DeadLetter) -> None:
        """Take the first letter that was asked for."""
        said = letter.headers.get("es.reason") or letter.headers.get("exception") or ""
        self.reason = "" if self.fingerprint == OTHER else redacted(said)
        self.example = letter.coordinates
        self.first_ms = self.last_ms = letter.timestamp_ms


class _Kind(NamedTuple):
    """What letters with the same headers have in common, but for the offset of their source."""

    cause: _Cause
    value: int
    column: PartitionOffsets


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
        self._all = self._wanted == Filter()
        self._names = OffsetMap()
        self._kinds: dict[tuple[bytes | None, ...], _Kind] = {}
        self._causes: list[_Cause] = []
        self._cause_numbers: dict[object, int] = {}
        self._indices, self._models = _Labels(), _Labels()
        self.read = 0
        self.foreign = 0

    def add(self, messages: Sequence[Any]) -> None:
        """Take letters in, in the order in which they lie."""
        kinds = self._kinds
        self.read += len(messages)
        for message in messages:
            headers = dict(read_headers(message))
            ms = message.timestamp()[1]
            try:
                kind = kinds[tuple(map(headers.get, _KIND))]
                offset = int(headers[_OFFSET])
            except (KeyError, ValueError, TypeError):
                kind, offset = self._unseen(message, headers)
            if not 0 <= offset <= LARGEST:
                kind, offset = self._unseen(message, headers)
            cause, value, column = kind
            if not (self._all or self._asked_for(message, ms)):
                value = _NOT_ASKED_FOR
            elif not cause.example:
                cause.begin(found(message, content=False))
            elif ms < cause.first_ms:
                cause.first_ms = ms
            elif ms > cause.last_ms:
                cause.last_ms = ms
            column.put(offset, ms // 1000 if 0 <= ms < _LATEST_MS else second(ms), value)

    def _asked_for(self, message: Any, ms: int) -> bool:
        if self._wanted.of_time_alone:
            return self._wanted.in_time(ms)
        return self._wanted.takes(found(message, content=False))

    def _unseen(self, message: Any, headers: dict[str, Any]) -> tuple[_Kind, int]:
        """Read a letter in full: the first of its kind, or one that something else wrote."""
        letter = found(message, content=False)
        topic, partition, offset = name_of(read_headers(message), message)
        self.foreign += not letter.writer
        seen_as = tuple(map(headers.get, _KIND))
        fingerprint, stage, es_type, index, model, *_ = seen_as
        cause = (fingerprint or letter.fingerprint.encode(), stage, es_type)
        number = self._cause_numbers.get(cause)
        if number is None:
            number = self._new_cause(letter, cause)
        value = (number << _BITS | self._indices.of(index)) << _BITS | self._models.of(model)
        kind = _Kind(self._causes[number], value, self._names.column((topic, partition)))
        if fingerprint and letter.writer and topic is not None:
            if len(self._kinds) >= _MOST_KINDS:
                self._kinds.clear()
            self._kinds[seen_as] = kind
        return kind, offset

    def _new_cause(self, letter: DeadLetter, kind: tuple[Any, ...]) -> int:
        if len(self._causes) >= MOST_CAUSES:
            kind = (OTHER,)
            if kind in self._cause_numbers:
                return self._cause_numbers[kind]
            cause = _Cause(OTHER)
        else:
            said = letter.headers
            cause = _Cause(letter.fingerprint, said.get("stage"), said.get("es.type"))
        number = self._cause_numbers[kind] = len(self._causes)
        self._causes.append(cause)
        return number

    def as_json(self) -> dict[str, Any]:
        """Return what `pipeline dlq stats --json` prints."""
        causes: Counter[int] = Counter()
        indices: Counter[int] = Counter()
        models: Counter[int] = Counter()
        hours: Counter[int] = Counter()
        in_hours = ((value, second // 3600) for second, value in self._names)
        while alike := Counter(islice(in_hours, _AT_ONCE)):
            for (value, hour), count in alike.items():
                if value == _NOT_ASKED_FOR:
                    continue
                causes[value >> 2 * _BITS] += count
                indices[value >> _BITS & _MASK] += count
                models[value & _MASK] += count
                hours[hour] += count
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
