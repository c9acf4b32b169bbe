"""Owns the counts of dead letters by cause, stage, index, model and hour.

A source counts once, with its newest letter. Of each letter a few numbers are kept and no
text, so that a million fit in 20 MB. Headers are compared as bytes, and each distinct value is
decoded once.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from llmlog_consumer.dead_letters.filters import Filter, GroupFilter
from llmlog_consumer.dead_letters.headers import PREFIX, read_headers
from llmlog_consumer.dead_letters.letter import (
    clamp_second,
    name_source,
    read_event_id,
    read_letter,
)
from llmlog_consumer.dead_letters.newest import LATEST_SECONDS, LetterLog
from llmlog_consumer.dead_letters.reasons import redact
from llmlog_consumer.times import iso

if TYPE_CHECKING:
    from collections.abc import Container, Sequence

    from llmlog_consumer.dead_letters.letter import DeadLetter
    from llmlog_consumer.kafka_record import KafkaRecord

OTHER: Final = "other"

_KIND_HEADERS: Final = tuple(
    PREFIX + name for name in ("fingerprint", "stage", "es.type", "index", "model", "group")
)
_COUNTED_LETTERS: Final = 10_000
"""Letters whose equal rows are counted together first: nearly all are like many others."""
_RECOVERED: Final = 1 << 61
"""A bit of the value of a letter whose document exists."""
_FILTERED_OUT: Final = 1 << 62
"""The value of a letter that the filter does not match."""
_LATEST_MS: Final = LATEST_SECONDS * 1000
_LABEL_BITS: Final = 16
_LABEL_MASK: Final = (1 << _LABEL_BITS) - 1


@dataclass(frozen=True, slots=True)
class Limits:
    """What bounds the memory of the counts.

    Attributes:
        causes: fingerprints that are counted each by itself; those beyond are `other`.
        labels: indices, and models, that are counted each by itself; those beyond are `other`.
        kinds: combinations of headers that are recognized without decoding.
    """

    causes: int = 10_000
    labels: int = 1_000
    kinds: int = 20_000


@dataclass(slots=True)
class _Cause:
    """The letters of one fingerprint; times are epoch milliseconds of letters.

    Reason, example and times are of letters that match the filter; empty while none did.
    """

    fingerprint: str
    stage: str | None = None
    type: str | None = None
    reason: str = ""
    example: str = ""
    first_ms: int = 0
    last_ms: int = 0

    def begin(self, letter: DeadLetter) -> None:
        """Take the first letter that matches the filter."""
        reason = letter.headers.get("es.reason") or letter.headers.get("exception") or ""
        self.reason = "" if self.fingerprint == OTHER else redact(reason)
        self.example = letter.coordinates
        self.first_ms = self.last_ms = letter.timestamp_ms


class _Kind(NamedTuple):
    """Letters whose headers are equal but for what names the source.

    Attributes:
        cause: of all of them.
        value: numbers of cause, index and model in one.
        group: in which they failed; empty where no worker of ours wrote them.
    """

    cause: _Cause
    value: int
    group: str


@dataclass(slots=True)
class _Labels:
    """Numbers for texts; number 0 stands for all that are beyond the limit."""

    limit: int
    numbers: dict[bytes | None, int] = field(default_factory=dict)
    texts: list[str | None] = field(default_factory=lambda: [OTHER])

    def number(self, raw: bytes | None) -> int:
        number = self.numbers.get(raw)
        if number is None:
            if len(self.texts) > self.limit:
                return 0
            number = self.numbers[raw] = len(self.texts)
            self.texts.append(raw.decode("utf-8", "replace") if raw else None)
        return number


class Stats:
    """The counts of dead letters: `add` letters, then read `as_json`.

    Args:
        wanted: the filter; letters that it does not match are not counted, but they hide older
            letters of their source.
        limits: what bounds the memory.
        groups: whose letters are counted.

    Attributes:
        letters: number of letters added.
        has_our_headers: whether any of them has the headers of a dead letter, ours or of a program
            that we know.
    """

    def __init__(
        self,
        wanted: Filter | None = None,
        limits: Limits | None = None,
        groups: GroupFilter | None = None,
    ) -> None:
        self._wanted = wanted or Filter()
        self._limits = limits or Limits()
        self._is_unfiltered = self._wanted == Filter()
        self._groups = groups or GroupFilter()
        self._log = LetterLog()
        self._is_recovered_known = True
        self._kinds: dict[tuple[bytes | None, ...], _Kind] = {}
        self._causes: list[_Cause] = []
        self._cause_numbers: dict[object, int] = {}
        self._indices, self._models = _Labels(self._limits.labels), _Labels(self._limits.labels)
        self.letters = 0
        self.has_our_headers = False

    def add(self, records: Sequence[KafkaRecord], recovered: Container[str] | None = None) -> None:
        """Take letters in, in the order of their offsets.

        Args:
            records: letters.
            recovered: event ids of those that have a document; None where that is not known.
        """
        kinds, takes = self._kinds, self._groups.takes
        self.letters += len(records)
        self._is_recovered_known &= recovered is not None
        for record in records:
            headers = dict(read_headers(record))
            ms = record.timestamp()[1]
            kind = kinds.get(tuple(map(headers.get, _KIND_HEADERS))) or self._add_kind(
                record, headers
            )
            cause, value, group = kind
            if not takes(group):
                continue
            if recovered and read_event_id(record, headers) in recovered:
                value |= _RECOVERED
            if not (self._is_unfiltered or self._matches(record, ms)):
                value = _FILTERED_OUT
            elif not cause.example:
                cause.begin(read_letter(record, content=False))
            elif ms < cause.first_ms:
                cause.first_ms = ms
            elif ms > cause.last_ms:
                cause.last_ms = ms
            second = ms // 1000 if 0 <= ms < _LATEST_MS else clamp_second(ms)
            self._log.put(name_source(record, headers), second, value)

    def _matches(self, record: KafkaRecord, ms: int) -> bool:
        if self._wanted.is_time_only:
            return self._wanted.matches_time(ms)
        return self._wanted.matches(read_letter(record, content=False))

    def _add_kind(self, record: KafkaRecord, headers: dict[str, Any]) -> _Kind:
        """Read a letter in full: the first of its kind, or one of another writer."""
        letter = read_letter(record, content=False)
        self.has_our_headers |= bool(letter.writer)
        key = tuple(map(headers.get, _KIND_HEADERS))
        fingerprint, stage, es_type, index, model, group = key
        number = self._cause_number(
            letter, (fingerprint or letter.fingerprint.encode(), stage, es_type)
        )
        value = number << _LABEL_BITS | self._indices.number(index)
        value = value << _LABEL_BITS | self._models.number(model)
        kind = _Kind(self._causes[number], value, letter.group)
        if fingerprint and group:
            if len(self._kinds) >= self._limits.kinds:
                self._kinds.clear()
            self._kinds[key] = kind
        return kind

    def _cause_number(self, letter: DeadLetter, key: tuple[Any, ...]) -> int:
        """Return the number of a letter's cause; it is new where the key is."""
        if key in self._cause_numbers:
            return self._cause_numbers[key]
        if len(self._causes) >= self._limits.causes:
            key = (OTHER,)
            if key in self._cause_numbers:
                return self._cause_numbers[key]
            cause = _Cause(OTHER)
        else:
            cause = _Cause(
                letter.fingerprint, letter.headers.get("stage"), letter.headers.get("es.type")
            )
        number = self._cause_numbers[key] = len(self._causes)
        self._causes.append(cause)
        return number

    def as_json(self) -> dict[str, Any]:
        """Return what `pipeline dlq stats --json` prints."""
        causes: Counter[int] = Counter()
        recovered: Counter[int] = Counter()
        indices: Counter[int] = Counter()
        models: Counter[int] = Counter()
        hours: Counter[int] = Counter()
        pairs = ((value, second // 3600) for second, value in self._log)
        while equal := Counter(islice(pairs, _COUNTED_LETTERS)):
            for (value, hour), count in equal.items():
                if value == _FILTERED_OUT:
                    continue
                if value & _RECOVERED:
                    value ^= _RECOVERED  # noqa: PLW2901
                    recovered[value >> 2 * _LABEL_BITS] += count
                causes[value >> 2 * _LABEL_BITS] += count
                indices[value >> _LABEL_BITS & _LABEL_MASK] += count
                models[value & _LABEL_MASK] += count
                hours[hour] += count
        stages: Counter[str | None] = Counter()
        for number, count in causes.items():
            stages[self._causes[number].stage] += count
        return {
            "total": causes.total(),
            "recovered": recovered.total() if self._is_recovered_known else None,
            "other_groups": self._groups.others.total(),
            "fingerprints": [
                self._row(number, count, recovered[number] if self._is_recovered_known else None)
                for number, count in causes.most_common()
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

    def _row(self, number: int, count: int, recovered: int | None) -> dict[str, Any]:
        cause = self._causes[number]
        return {
            "fingerprint": cause.fingerprint,
            "stage": cause.stage,
            "type": cause.type,
            "count": count,
            "recovered": recovered,
            "first_seen": iso(cause.first_ms),
            "last_seen": iso(cause.last_ms),
            "example": cause.example,
            "reason": cause.reason,
        }
