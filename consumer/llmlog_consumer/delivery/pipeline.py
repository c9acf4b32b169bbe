"""Records in, outcomes out: decode, batch, index, dead-letter. Shared by worker and replay.

One thread owns everything here; bulk threads only send a batch and hand back its answer.
Every record ends in exactly one outcome, told by `settle`; until then it is in flight.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Final

import structlog

from llmlog_common.throttled_log import ThrottledLog
from llmlog_consumer.dead_letters.writer import LetterWriter
from llmlog_consumer.delivery.bulk_sender import BulkSender, Pause
from llmlog_consumer.delivery.circuit_breaker import Phase
from llmlog_consumer.delivery.rejects import Rejects
from llmlog_consumer.delivery.results import BulkResults
from llmlog_consumer.delivery.transform import Transform
from llmlog_consumer.elasticsearch.bulk import BulkClient
from llmlog_consumer.elasticsearch.document import Documents
from llmlog_consumer.outcomes import Outcome, Settle
from llmlog_schemas.codec import Decoder
from llmlog_schemas.registry import Registry

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Sequence

    from llmlog_common.settings import Settings
    from llmlog_consumer.dead_letter_counts import Kind
    from llmlog_consumer.elasticsearch.connection import Elastic
    from llmlog_consumer.offset_tracker import Span

log = structlog.get_logger("llmlog.delivery")

_REGISTRY_AGAIN: Final = 1.0


class Delivery:
    """The way of records from Kafka to their outcome.

    Args:
        decoder: values to events.
        documents: events to documents.
        indexer: sends batches.
        letters: writes dead letters.
        settle: told every outcome.
        accepted: fingerprints that the circuit_open breaker lets through.
    """

    def __init__(
        self,
        *,
        decoder: Decoder,
        documents: Documents,
        indexer: BulkClient,
        letters: LetterWriter,
        settle: Settle,
        accepted: frozenset[str] = frozenset(),
    ) -> None:
        self._transform = Transform(decoder, documents)
        self._settle = settle
        self._rejects = Rejects(letters, settle, accepted)
        self._sending = BulkSender(indexer, self._rejects.record_released)
        self._builder = self._transform.gathered
        self._results = BulkResults(self._sending, self._rejects, settle, decoder, self._builder)
        self._incoming: deque[tuple[Span, Sequence[Any]]] = deque()
        self._decode_not_before = 0.0
        self._throttled = ThrottledLog(log)
        self._registry_away = ""

    @classmethod
    def from_settings(
        cls, settings: Settings, elastic: Elastic, dlq_partitions: int, settle: Settle,
        accepted: frozenset[str] = frozenset(),
    ) -> Delivery:  # fmt: skip
        """Make one with all its parts.

        Args:
            settings: as loaded.
            elastic: the connection.
            dlq_partitions: of the dead-letter topic.
            settle: told every outcome.
            accepted: fingerprints that the circuit_open breaker lets through.
        """
        return cls(
            decoder=Decoder(Registry.from_settings(settings)),
            documents=Documents(settings.index, settings.max_event_age),
            indexer=BulkClient(elastic, settings.index),
            letters=LetterWriter(settings, dlq_partitions),
            settle=settle,
            accepted=accepted,
        )

    @property
    def counts(self) -> Counter[str]:
        """`retries` of requests, `unclassified` answers, documents in a `failure_store`."""
        return self._results.counts

    @property
    def hold(self) -> Pause | None:
        """Why nothing but probes is sent; None while all is well."""
        return self._sending.hold

    @property
    def circuit_open(self) -> str:
        """Say why the breaker is open, and what to do; empty while it is closed."""
        return self._rejects.circuit_open

    @property
    def deaths(self) -> Counter[Kind]:
        """Letters delivered, by fingerprint and stage."""
        return self._rejects.deaths

    @property
    def unhealthy(self) -> str:
        """Say what a person has to mend before records settle; empty while all is well."""
        hold = self._sending.hold
        return (
            (hold.why if hold else "")
            or self._rejects.circuit_open
            or self._rejects.refusal
            or self._registry_away
        )

    @property
    def closed(self) -> bool:
        """Tell whether nothing more should be taken in."""
        return self._sending.hold is not None or bool(self._rejects.circuit_open)

    @property
    def stuck(self) -> bool:
        """Tell whether nothing that is here can settle until somebody mends something."""
        gathered = self._sending.hold is None and len(self._builder)
        return self.closed and not (self._sending.waiting or gathered or self._rejects.pending)

    def accept(self, span: Span, records: Sequence[Any]) -> None:
        """Take records in; their span is registered already."""
        self._incoming.append((span, records))
        self._decode_incoming()

    def step(self, wait: float = 0.0) -> None:
        """Take answers, send what may be sent; waits `wait` seconds at most for an answer."""
        for answered in self._sending.answers(wait):
            self._results.handle(answered)
            self._sending.answered(answered.batch)
        self._rejects.poll()
        if self._incoming:
            self._decode_incoming()
        self._retry_held()
        if self._builder.due(time.monotonic()):
            self._sending.put(self._builder.take())
        self._sending.send()

    def flush(self) -> None:
        """Send what is gathered without waiting for more."""
        if len(self._builder):
            self._sending.put(self._builder.take())
        self._sending.send()

    def close(self) -> None:
        """Let the bulk threads go; what they still send is not waited for."""
        self._sending.close()

    # Records to operations

    def _decode_incoming(self) -> None:
        if time.monotonic() < self._decode_not_before:
            return
        while self._incoming:
            span, records = self._incoming.popleft()
            if span.released:
                for record in records:
                    self._rejects.record_released(span, record)
                continue
            taken = self._transform.take(span, records)
            self._sending.put(*taken.full)
            for record, size, cause in taken.dead:
                self._rejects.reject(Phase.READ, span, record, size, cause)
            for record, size in taken.expired:
                self._settle(span, Outcome.EXPIRED, 1, size)
                self._rejects.record_released(span, record)
            self._rejects.record_success(Phase.READ, taken.number - len(taken.dead))
            if taken.registry_error:
                self._registry_away = f"Schema Registry: {taken.registry_error}"
                self._incoming.appendleft((span, records[taken.number :]))
                self._decode_not_before = time.monotonic() + _REGISTRY_AGAIN
                self._throttled(
                    logging.WARNING,
                    "registry",
                    "waiting for the Schema Registry",
                    why=taken.registry_error,
                )
                return
        self._registry_away = ""

    def _retry_held(self) -> None:
        """Put what the breaker gives back on its way again."""
        was_open, back = bool(self._rejects.circuit_open), self._rejects.due()
        self._incoming.extend((span, [record]) for span, record in back)
        if was_open and self._incoming:
            self._decode_incoming()
            self.flush()
