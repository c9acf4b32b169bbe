"""The hot path: what is done for every record, from Kafka's value to its two lines of a bulk body.

Everything else is done for a run of records or for a request. Beside each step stands what it
costs: µs of CPU for a record of 2,000 bytes / of 500, each step alone (the worker's profile in
`make bench`, of the run in docs/performance.md). Most of it is waiting for memory: on a machine
that shared it with others each step took two to three times as long.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from llmlog_common.errors import ConfigurationError, Unreachable
from llmlog_consumer.dead_letters.cause import Cause, Ending, Stage
from llmlog_consumer.elasticsearch.batch import Batch, BatchBuilder
from llmlog_consumer.elasticsearch.document import Documents, ExpiredError, TransformError
from llmlog_schemas.codec import DecodeError, Decoder

if TYPE_CHECKING:
    from collections.abc import Sequence

    from llmlog_consumer.offset_tracker import Span


@dataclass(slots=True)
class Transformed:
    """What became of some records of one span; of all others there is an operation now.

    Attributes:
        number: how many were taken, from the first one on.
        full: batches that became full.
        dead: records of which no operation can be made, their bytes, and why.
        expired: records that are older than the limit, and their bytes.
        registry_error: why there is no schema for the record after the last one taken.
    """

    number: int = 0
    full: list[Batch] = field(default_factory=list)
    dead: list[tuple[Any, int, Cause]] = field(default_factory=list)
    expired: list[tuple[Any, int]] = field(default_factory=list)
    registry_error: str = ""


class Transform:
    """Makes operations of records.

    Args:
        decoder: values to events.
        documents: events to documents.

    Attributes:
        gathered: operations that make no full batch yet.
    """

    def __init__(self, decoder: Decoder, documents: Documents) -> None:
        self._decoder = decoder
        self._documents = documents
        self.gathered = BatchBuilder()

    def take(self, span: Span, records: Sequence[Any]) -> Transformed:
        """Make operations of records, in their order.

        Args:
            span: what they settle.
            records: of Kafka.
        """
        head, make, add = self._decoder.head, self._documents.make, self.gathered.add
        now, now_ms = time.monotonic(), time.time() * 1000
        taken = Transformed()
        for record in records:
            value = record.value()  # 0.05 / 0.04
            size = len(value) if value is not None else 0
            try:
                event = head(value)  # 2.2 / 1.5
                index, document_id, document = make(event, now_ms)  # 0.8 / 0.7
            except DecodeError as error:
                cause = Cause(Stage.DECODE, Ending.POISON, named(error))
                taken.dead.append((record, size, cause))
            except TransformError as error:
                model = model_of(self._decoder, value)
                cause = Cause(Stage.TRANSFORM, Ending.POISON, named(error), model=model)
                taken.dead.append((record, size, cause))
            except ExpiredError:
                taken.expired.append((record, size))
            except (Unreachable, ConfigurationError) as error:
                taken.registry_error = str(error)
                return taken
            else:
                # 1.0 / 0.7
                full = add(span, record, size, index, document_id, document, now)
                if full is not None:
                    taken.full.append(full)
            taken.number += 1
        return taken


def model_of(decoder: Decoder, value: bytes | None) -> str:
    """Return the model that an event names; empty where that cannot be read."""
    try:
        return decoder.decode(value)["model"]
    except DecodeError:
        return ""


def named(error: Exception) -> str:
    """Return an error's kind and text."""
    return f"{type(error).__name__}: {error}"
