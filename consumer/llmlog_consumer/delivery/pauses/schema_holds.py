"""Owns which records wait for the schema of an id, when it is asked for, and what ends that. Pure.

A schema that cannot be had is a deployment's fault: no registry is set, it is the wrong one, was
restored empty, or is away. So the records of that id are held, and the others go on. An id ends
in dead letters in one case alone: the registry has said that it does not know it, has returned
another schema of ours since, and says again that it does not know this one.

    hold ──asked──> known          the records go on
                ──> unreachable    asked again
                ──> refused        asked again; a person has to act
                ──> unknown        asked again, after an id that was known before (the witness)
                    ──> unknown again, and another id known since: letters
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from llmlog_consumer.backoff import Backoff
from llmlog_consumer.delivery.pauses.held_records import HeldRecord, HeldRecords

if TYPE_CHECKING:
    from llmlog_consumer.kafka_record import KafkaRecord
    from llmlog_consumer.offset_tracker import Span

MAX_HELD_BYTES: Final = 8 * 1024 * 1024
"""Weight of held records, over all ids, at which the partitions that they come from pause."""
UNKNOWN_SECONDS: Final = 60.0
"""How long an id counts as unknown: new records of it become letters without a question."""
MIN_ASK_SECONDS: Final = 1.0
"""The least time between two questions about one id."""
MAX_ASKED: Final = 16
"""Ids that are asked for at one time at most."""

_ASK_BACKOFF: Final = Backoff(first_seconds=1.0, max_seconds=15.0)
_NEVER: Final = float("inf")


@dataclass(slots=True)
class _Scope:
    """What is held for one schema id."""

    records: HeldRecords = field(default_factory=HeldRecords)
    why: str = ""
    needs_person: bool = False
    answers: int = 0
    next_ask: float = 0.0  # infinite while a question is under way
    known_before: int = -1  # schemas known when the id was first said to be unknown; -1: it was not


@dataclass(slots=True)
class SchemaHolds:
    """The records that are held, by schema id. The thread that runs the delivery owns it.

    Attributes:
        max_bytes: weight at which the partitions that they come from pause.
    """

    max_bytes: int = MAX_HELD_BYTES
    _scopes: dict[int, _Scope] = field(default_factory=dict)
    _unknown: dict[int, tuple[str, float]] = field(default_factory=dict)
    _known: int = 0
    _witnesses: list[int] = field(default_factory=list)

    def __len__(self) -> int:
        """Return how many records are held."""
        return sum(len(scope.records) for scope in self._scopes.values())

    @property
    def ids(self) -> int:
        """For how many ids records are held."""
        return sum(bool(len(scope.records)) for scope in self._scopes.values())

    @property
    def bytes(self) -> int:
        """Weight of the held records."""
        return sum(scope.records.bytes for scope in self._scopes.values())

    @property
    def partitions(self) -> Counter[int]:
        """How many records of each partition are held."""
        return sum((scope.records.partitions for scope in self._scopes.values()), Counter())

    @property
    def is_full(self) -> bool:
        """Tell whether so much is held that the partitions it comes from have to pause."""
        return self.bytes >= self.max_bytes

    @property
    def reason(self) -> str:
        """Say for which ids records are held, why, and what to do; empty where all is well."""
        return self._describe([s for s in self._scopes.items() if s[1].why])

    @property
    def reason_for_person(self) -> str:
        """Say the same of the ids that waiting alone does not help."""
        return self._describe([s for s in self._scopes.items() if s[1].needs_person])

    def hold(self, schema_id: int, span: Span, record: KafkaRecord) -> None:
        """Hold a record until the schema of its id is known."""
        self._scopes.setdefault(schema_id, _Scope()).records.add(span, record)

    def unknown(self, schema_id: int, now: float) -> str:
        """Say why records of this id become letters; empty where they do not, or not any more."""
        why, until = self._unknown.get(schema_id, ("", 0.0))
        if why and now >= until:
            del self._unknown[schema_id]
            return ""
        return why

    def take_due(self, now: float) -> list[int]:
        """Return the ids to ask for now, in this order; each is under way until it is answered."""
        due = [i for i, scope in self._scopes.items() if scope.next_ask <= now][:MAX_ASKED]
        for schema_id in due:
            self._scopes[schema_id].next_ask = _NEVER
        needs_witness = any(self._scopes[i].known_before == self._known for i in due)
        witnesses = [i for i in self._witnesses if i not in self._scopes][:1]
        return [*(witnesses if needs_witness else ()), *due]

    def record_known(self, schema_id: int) -> list[HeldRecord]:
        """Return the held records of an id whose schema is known now."""
        self._known += 1
        if schema_id not in self._witnesses:
            self._witnesses.append(schema_id)
        scope = self._scopes.pop(schema_id, None)
        return scope.records.take() if scope is not None else []

    def record_unknown(self, schema_id: int, why: str, now: float) -> list[HeldRecord]:
        """Note that the registry does not know an id; return the records that become letters."""
        scope = self._scopes.get(schema_id)
        if scope is None:
            return []
        if 0 <= scope.known_before < self._known:
            self._unknown[schema_id] = (why, now + UNKNOWN_SECONDS)
            del self._scopes[schema_id]
            return scope.records.take()
        scope.known_before = self._known
        self._keep(scope, why, now, needs_person=True)
        return []

    def record_refused(self, schema_id: int, why: str, now: float) -> None:
        """Note an answer that a person has to act on: the schema stays away until then."""
        if (scope := self._scopes.get(schema_id)) is not None:
            scope.known_before = -1
            self._keep(scope, why, now, needs_person=True)

    def record_unreachable(self, schema_id: int, why: str, now: float) -> None:
        """Note that there was no answer."""
        if (scope := self._scopes.get(schema_id)) is not None:
            self._keep(scope, why, now, needs_person=False)

    def drop_released(self) -> list[HeldRecord]:
        """Drop the records that a rebalance took away; return them."""
        dropped = [
            held for scope in self._scopes.values() for held in scope.records.drop_released()
        ]
        self._scopes = {
            schema_id: scope
            for schema_id, scope in self._scopes.items()
            if scope.records or scope.next_ask == _NEVER
        }
        return dropped

    def _keep(self, scope: _Scope, why: str, now: float, *, needs_person: bool) -> None:
        scope.why, scope.needs_person = why, needs_person
        scope.answers += 1
        scope.next_ask = now + _ASK_BACKOFF.delay(scope.answers, at_least=MIN_ASK_SECONDS)

    def _describe(self, scopes: list[tuple[int, _Scope]]) -> str:
        scopes = [(schema_id, scope) for schema_id, scope in scopes if scope.records]
        if not scopes:
            return ""
        schema_id, scope = scopes[0]
        more = f" (and {len(scopes) - 1} other ids)" if len(scopes) > 1 else ""
        full = ", partitions " + _numbers(self.partitions) + " paused" if self.is_full else ""
        return (
            f"schema id {schema_id}{more}: {scope.why}; {len(self)} records wait{full}, "
            "the others go on"
        )


def _numbers(partitions: Counter[int]) -> str:
    return ", ".join(map(str, sorted(partitions)))
