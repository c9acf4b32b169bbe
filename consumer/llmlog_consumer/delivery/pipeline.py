"""Owns the way of records to their outcome: decode, batch, index, or dead letter.

The worker and the replay drive it. One thread calls every method and owns every field; bulk
threads only send a batch and return its answer. Every record ends in exactly one outcome, which
`settle` reports; until then it is in flight.
"""

from __future__ import annotations

import re
import socket
import time
from collections import deque
from dataclasses import replace
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final

from llmlog_consumer.dead_letters.cause import Ending
from llmlog_consumer.dead_letters.writer import LetterWriter
from llmlog_consumer.delivery.bulk_sender import BulkSender
from llmlog_consumer.delivery.circuit_breaker import CircuitBreaker, Phase
from llmlog_consumer.delivery.clock_doubt import ClockDoubt
from llmlog_consumer.delivery.limits import LETTER_BYTES, DeliveryLimits
from llmlog_consumer.delivery.pauses.schema_scopes import SchemaScopes
from llmlog_consumer.delivery.rejects import Rejects
from llmlog_consumer.delivery.results import BulkResults
from llmlog_consumer.delivery.transform import Transform
from llmlog_consumer.elasticsearch.bulk import BulkClient
from llmlog_consumer.elasticsearch.document import Documents
from llmlog_consumer.metric_list import PausedKind
from llmlog_schemas.codec import Decoder
from llmlog_schemas.registry import Registry

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Mapping, Sequence
    from collections.abc import Set as AbstractSet
    from concurrent.futures import Executor

    from llmlog_common.settings import Settings
    from llmlog_consumer.dead_letter_counts import Kind
    from llmlog_consumer.delivery.bulk_sender import ConcurrencyLimit
    from llmlog_consumer.delivery.pauses.held_records import HeldRecord
    from llmlog_consumer.elasticsearch.connection import Elastic
    from llmlog_consumer.kafka_record import KafkaRecord
    from llmlog_consumer.offset_tracker import Span
    from llmlog_consumer.outcomes import Settle

_FINGERPRINT: Final = re.compile(r"[0-9a-f]{12}")


class Delivery:
    """The way of records from Kafka to their outcome.

    Args:
        decoder: values to events.
        documents: events to documents.
        client: sends batches.
        letters: writes dead letters.
        settle: called with every outcome.
        schemas: the decoder's source of schemas; it holds the records that wait for one.
        breaker: holds failed records where the deployment is at fault.
        doubt: tells whether this host's clock may be why records fail.
        is_drop_declared: a document that an ingest pipeline drops is no fault.
        limits: bounds of batches and of requests.
        concurrency: how many requests may be under way; by default `limits` says.
        executor: runs the requests; by default threads.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        *,
        decoder: Decoder,
        documents: Documents,
        client: BulkClient,
        letters: LetterWriter,
        settle: Settle,
        schemas: SchemaScopes | None = None,
        breaker: CircuitBreaker[HeldRecord] | None = None,
        doubt: ClockDoubt | None = None,
        is_drop_declared: bool = False,
        limits: DeliveryLimits | None = None,
        concurrency: ConcurrencyLimit | None = None,
        executor: Executor | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        limits = limits or DeliveryLimits()
        self._clock = clock
        self._builder = limits.new_builder()
        self._transform = Transform(decoder, documents, self._builder, clock)
        self._rejects = Rejects(letters, settle, breaker or CircuitBreaker(), clock, doubt)
        self._sender = BulkSender(
            client,
            self._rejects.record_released,
            concurrency=concurrency or limits.new_concurrency(),
            executor=executor,
            hold=limits.hold,
            clock=clock,
        )
        self._builder.paused = self._sender.index_pauses.names
        self._results = BulkResults(
            self._sender,
            self._rejects,
            settle,
            decoder,
            self._builder,
            is_drop_declared=is_drop_declared,
            clock=clock,
        )
        self._incoming: deque[tuple[Span, Sequence[KafkaRecord]]] = deque()
        self._schemas = schemas or SchemaScopes(None, clock=clock)

    @classmethod
    def from_settings(
        cls,
        settings: Settings,
        elastic: Elastic,
        dlq_partitions: int,
        settle: Settle,
        *,
        accepted: frozenset[str] = frozenset(),
        limits: DeliveryLimits | None = None,
    ) -> Delivery:
        """Return a delivery with all its parts.

        Args:
            settings: as loaded.
            elastic: the connection; the caller closes it.
            dlq_partitions: partitions of the dead-letter topic.
            settle: called with every outcome.
            accepted: fingerprints that the circuit breaker lets through as letters.
            limits: bounds of batches and of requests.
        """
        limits = limits or DeliveryLimits()
        hold = replace(limits.hold, wait_seconds=settings.index_wait.total_seconds())
        schemas = SchemaScopes(Registry.from_settings(settings))
        return cls(
            decoder=Decoder(schemas),
            schemas=schemas,
            documents=Documents(
                settings.index, settings.max_event_age, settings.group_max_event_age
            ),
            client=BulkClient(elastic, settings.index),
            letters=LetterWriter(settings, dlq_partitions),
            settle=settle,
            breaker=CircuitBreaker(accepted),
            doubt=ClockDoubt(socket.gethostname(), settings.max_event_age),
            is_drop_declared=settings.ingest_drop == "drop",
            limits=replace(limits, hold=hold),
        )

    @property
    def counts(self) -> Counter[str]:
        """What happened beside the outcomes: of `BulkResults`, and of `BulkSender`."""
        return self._results.counts + self._sender.counts

    @property
    def gauges(self) -> dict[str, float]:
        """The delivery's numbers of this moment, by metric."""
        return {
            "requests_under_way": self._sender.under_way,
            "concurrency_limit": self._sender.limit,
            "pending_letters": self._rejects.pending,
        }

    @property
    def paused_scopes(self) -> dict[PausedKind, int]:
        """How many scopes of each kind are paused now."""
        return {
            PausedKind.DEPLOYMENT: int(self._sender.paused),
            PausedKind.INDEX: len(self._sender.index_pauses.names),
            PausedKind.SCHEMA: self._schemas.held_ids,
            PausedKind.CIRCUIT: int(bool(self._rejects.circuit)),
            PausedKind.DEAD_LETTERS: int(bool(self._rejects.refusal)),
        }

    @property
    def dead_letters(self) -> Counter[Kind]:
        """Letters delivered, by fingerprint and stage."""
        return self._rejects.dead_letters

    @property
    def pause_reason(self) -> str:
        """Say why nothing but probes is sent, and what to do; empty while nothing is paused."""
        return self._sender.pause_reason

    @property
    def circuit_open(self) -> str:
        """Say why records are held by an open circuit, and what to do; empty while none is."""
        return self._rejects.circuit_open

    @property
    def is_probing(self) -> bool:
        """Tell whether an open circuit takes in records, or tries some, before it decides."""
        return self._rejects.is_probing

    @property
    def room(self) -> int | None:
        """Return how many records may be taken in at most; None for no such bound."""
        return self._rejects.wanted or None

    @property
    def unhealthy(self) -> str:
        """Say what a person has to fix before records settle; empty while all is well."""
        return (
            self._sender.pause_reason
            or self._rejects.circuit_open
            or self._sender.index_pauses.reason(self._clock())
            or self._rejects.refusal
            or self._schemas.reason
            or self._results.waits_for
        )

    @property
    def schema_reason(self) -> str:
        """Say what a person has to fix before records get their schema; empty while all is well."""
        return self._schemas.reason_for_person

    @property
    def full_partitions(self) -> AbstractSet[int]:
        """The partitions to take nothing from: as many of their records as may be are held."""
        return self._schemas.full_partitions

    @property
    def is_blocked(self) -> bool:
        """Tell whether the caller should bring no more records: the deployment is wrong."""
        is_open = bool(self._rejects.circuit) and not self._rejects.wanted
        wants_probe = self._sender.wants_probe and not len(self._builder)
        return (self._sender.paused and not wants_probe) or is_open

    @property
    def is_stuck(self) -> bool:
        """Tell whether no record that is here can settle until a person fixes something."""
        is_gathering = bool(len(self._builder)) and not self._sender.paused
        alone = self._results.waiting_alone
        has_work = self._sender.has_work_beside(alone)
        is_held = (
            self._sender.paused
            or bool(self._rejects.circuit)
            or self._sender.index_pauses.needs_person
            or alone > 0
        )
        return is_held and not (has_work or is_gathering or self._rejects.pending)

    def drop_released(self) -> None:
        """Drop the held records that a rebalance took away."""
        self._schemas.drop_released()
        self._sender.index_pauses.drop_released()

    def memory(self, partition: int) -> dict[str, Any]:
        """Return what the partition's next owner has to know, as keys of its note."""
        del partition  # each of them meets the circuit and the paused indices of this worker
        ages = self._sender.index_pauses.ages(self._clock())
        circuit = self._rejects.circuit
        return ({"circuit": circuit} if circuit else {}) | ({"held": ages} if ages else {})

    def restore(self, partition: int, note: Mapping[str, Any]) -> None:
        """Take in what the partition's last owner has noted.

        Args:
            partition: of the source topic.
            note: checked for the types of its keys alone.
        """
        del partition
        if _FINGERPRINT.fullmatch(cause := note.get("circuit", "")):
            self._rejects.restore_circuit(cause)
        ages = {
            index: seconds
            for index, seconds in note.get("held", {}).items()
            if isinstance(seconds, (int, float)) and seconds >= 0
        }
        self._sender.index_pauses.remember(ages, self._clock())

    def forget_circuit(self) -> None:
        """Close an open circuit without a probe: the caller has no partition any more."""
        self._rejects.forget_circuit()

    def accept(self, span: Span, records: Sequence[KafkaRecord]) -> None:
        """Take in records whose span is registered."""
        self._rejects.take_in(span, records)
        self._incoming.append((span, records))
        self._decode_incoming()

    def step(self, wait: float = 0.0) -> None:
        """Handle the answers that have arrived, then send what may be sent.

        Args:
            wait: seconds to wait for an answer at most.
        """
        for response in self._sender.answers(wait):
            self._results.handle(response)
        self._rejects.poll()
        for span, of_span in groupby(self._schemas.step(), itemgetter(0)):
            self._incoming.append((span, [record for _, record in of_span]))
        if self._incoming:
            self._decode_incoming()
        self._retry_held()
        self._pause_indices()
        if self._builder.due(self._clock()):
            self._sender.put(self._builder.take())
        self._sender.send()

    def flush(self) -> None:
        """Send the gathered operations without waiting for more."""
        if len(self._builder):
            self._sender.put(self._builder.take())
        self._sender.send()

    # Indices that take nothing

    def set_newest(self, index: str) -> None:
        """Say which index is the newest: its documents never become letters by waiting."""
        self._sender.set_newest(index)

    def give_up_behind(self, next_offsets: Mapping[int, int]) -> None:
        """Reject documents that wait for an index while their partition went far ahead of them.

        Args:
            next_offsets: the next offset to consume, by partition.
        """
        if self._sender.index_pauses:
            self._results.give_up(self._sender.index_pauses.give_up_behind(next_offsets))

    def waiting(self, *, for_time: bool) -> Counter[int]:
        """Return how many records wait for their index or their schema, by partition.

        Args:
            for_time: count those that wait for their next attempt as well.
        """
        waiting = self._sender.index_pauses.waiting() + self._schemas.partitions
        return waiting + self._sender.waiting_for_time() if for_time else waiting

    def waiting_bytes(self) -> Mapping[int, int]:
        """Return what records weigh that wait for indices other than the newest, by partition."""
        return self._sender.index_pauses.waiting_bytes()

    @property
    def letter_bytes(self) -> int:
        """What letters that are not delivered weigh, beside their records in flight."""
        return self._rejects.pending * LETTER_BYTES

    def _pause_indices(self) -> None:
        """Hold what was gathered for paused indices; give up what has waited for long enough."""
        pauses = self._sender.index_pauses
        for batch in self._builder.take_aside():
            if (others := pauses.keep(batch)) is not None:
                self._sender.put(others)
        if pauses:
            self._results.give_up(pauses.give_up(self._clock()))
        if pauses and self._rejects.is_probing:
            for operation in pauses.operations():  # they tell nothing about the open circuit
                self._rejects.record_released(operation.span, operation.record)

    def close(self) -> None:
        """Stop the threads without waiting for the requests that are under way."""
        self._sender.close()
        self._schemas.close()

    def _decode_incoming(self) -> None:
        """Turn records that have come into operations."""
        while self._incoming:
            span, records = self._incoming.popleft()
            if span.released:
                for record in records:
                    self._rejects.record_released(span, record)
                continue
            result = self._transform.transform(span, records)
            self._sender.put(*result.full)
            for record, size, cause in result.rejected:
                # A schema that is known to be missing is a fault of its own, and of no row.
                in_row = cause.disposition is not Ending.EXHAUSTED
                self._rejects.reject(Phase.READ, span, record, size, cause, in_row=in_row)
            for record, schema_id in result.waiting:
                self._schemas.hold(schema_id, span, record)
                self._rejects.record_released(span, record)
            passed = len(records) - len(result.rejected) - len(result.waiting)
            self._rejects.record_success(Phase.READ, passed)

    def _retry_held(self) -> None:
        """Take in again the records that the circuit breaker gives back."""
        was_open, again = bool(self._rejects.circuit), self._rejects.due()
        self._incoming.extend((span, [record]) for span, record in again)
        if was_open and self._incoming:
            self._decode_incoming()
            self.flush()
