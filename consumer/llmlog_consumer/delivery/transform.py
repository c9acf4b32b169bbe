"""Owns the hot path: the work for every record, from Kafka's value to two lines of a bulk body.

All other work is done once for a run of records, or once for a request. For each record the good
path calls eight functions or fewer that are written in Python:

    Decoder.head, Decoder._opened, codec._read     value to event; Avro itself is C
    Documents.make, document.one_line              event to index name, id and JSON
    BatchBuilder.add, Operation()                  JSON to two lines of the body
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from llmlog_consumer.dead_letters.cause import Cause, Ending, Stage
from llmlog_consumer.elasticsearch.document import Documents, ExpiredError, TransformError
from llmlog_schemas.codec import (
    DecodeError,
    Decoder,
    SchemaPendingError,
    UnknownSchemaError,
    begins_event,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from llmlog_consumer.elasticsearch.batch import Batch, BatchBuilder
    from llmlog_consumer.kafka_record import KafkaRecord
    from llmlog_consumer.offset_tracker import Span


@dataclass(slots=True)
class Transformed:
    """The result for a run of records of one span; every record that is not listed was batched.

    Attributes:
        full: batches that became full.
        rejected: records that make no operation, their bytes, and why.
        waiting: records whose schema is not known yet, and its id.
    """

    full: list[Batch] = field(default_factory=list)
    rejected: list[tuple[KafkaRecord, int, Cause]] = field(default_factory=list)
    waiting: list[tuple[KafkaRecord, int]] = field(default_factory=list)


class Transform:
    """The step from records to operations.

    Args:
        decoder: values to events.
        documents: events to documents.
        builder: gathers the operations.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        decoder: Decoder,
        documents: Documents,
        builder: BatchBuilder,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._decoder = decoder
        self._documents = documents
        self._builder = builder
        self._clock = clock

    def transform(self, span: Span, records: Sequence[KafkaRecord]) -> Transformed:
        """Add an operation to the batch for each record, in their order.

        Args:
            span: the span that the records belong to.
            records: of Kafka.
        """
        head, make, add = self._decoder.head, self._documents.make, self._builder.add
        now, now_ms = self._clock(), time.time() * 1000
        result = Transformed()
        for record in records:
            value = record.value()
            size = len(value) if value is not None else 0
            try:
                event = head(value)
                index, document_id, document = make(event, now_ms)
            except DecodeError as error:
                is_asked = isinstance(error, UnknownSchemaError)  # more than once
                ending = Ending.EXHAUSTED if is_asked else Ending.POISON
                cause = Cause(Stage.DECODE, ending, describe(error))
                result.rejected.append((record, size, cause))
            except TransformError as error:
                model = model_of(self._decoder, value)
                cause = Cause(Stage.TRANSFORM, Ending.POISON, describe(error), model=model)
                result.rejected.append((record, size, cause))
            except ExpiredError as error:
                model = model_of(self._decoder, value)
                cause = Cause(Stage.EXPIRED, Ending.PERMANENT, describe(error), model=model)
                result.rejected.append((record, size, cause))
            except SchemaPendingError as pending:
                if value is not None and begins_event(value):
                    result.waiting.append((record, pending.schema_id))
                else:
                    cause = Cause(Stage.DECODE, Ending.POISON, describe(_no_event(pending)))
                    result.rejected.append((record, size, cause))
            else:
                full = add(span, record, size, index, document_id, document, now)
                if full is not None:
                    result.full.append(full)
        return result


def model_of(decoder: Decoder, value: bytes | None) -> str:
    """Return the model that an event names; empty where it cannot be read."""
    try:
        return decoder.decode(value)["model"]
    except DecodeError:
        return ""


def _no_event(pending: SchemaPendingError) -> DecodeError:
    return DecodeError(f"no event follows the framing, which names the schema {pending.schema_id}")


def describe(error: Exception) -> str:
    """Return an error's kind and text."""
    return f"{type(error).__name__}: {error}"
